// A byte-level tokenizer.json at work: the same ids as src/tercet/tokenization/tokenizer.py, which runs the `tokenizers`
// library. A tokenizer of another kind is refused, never approximated.
//
// Text never becomes a control token, whatever it says.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "formats/utf8.hpp"
#include "tokenization/byte_merges.hpp"
#include "tokenization/words.hpp"

namespace tercet {

class Tokenizer {
  public:
    // Throws FormatError, UnsupportedError.
    explicit Tokenizer(std::string tokenizer_json);

    std::size_t num_tokens() const noexcept { return num_tokens_; }
    std::vector<std::int32_t> encode(std::string_view text) const;  // of UTF-8
    bool is_control(std::int32_t token) const noexcept;
    std::string_view bytes(std::int32_t token) const;  // none where no token has this id
    std::optional<std::int32_t> find(std::string_view content) const;  // an added token, control tokens among them

  private:
    struct Added {
        std::int32_t id;
        std::string content;
        bool is_special, is_normalized;
    };
    // A stretch of a text: an added token that stands in it, or (negative id) text between those.
    struct Stretch {
        Span span;
        std::int32_t id;
    };
    explicit Tokenizer(const Json& document);
    void read_added_token(const Fields& entry);
    void append_plain(const Characters& text, std::string_view bytes, Span whole, std::vector<std::int32_t>& ids) const;
    std::vector<Stretch> cut_at_added(const Characters& text, std::string_view bytes, Span whole) const;
    const Added* added_at(std::string_view rest, bool normalized) const;  // the longest that the text goes on with

    ByteMerges merges_;
    WordRule words_;
    std::vector<Added> added_;
    std::unordered_map<std::int32_t, std::size_t> added_by_id_;
    std::unordered_map<std::string, std::int32_t> added_by_content_;
    std::unordered_map<char, std::vector<std::size_t>> added_by_first_byte_;  // the longest first
    std::int32_t highest_added_ = -1;
    std::size_t num_tokens_ = 0;
    bool finds_text_ = false;  // whether a text may hold added tokens that are not control tokens
};

}  // namespace tercet

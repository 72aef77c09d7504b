// Byte-level BPE: the bytes of a word, joined pair by pair in the order of the merges, until no pair is left that has one.
//
// Tokens are written in GPT-2's alphabet, in which every byte is a character: printable bytes are themselves, the others
// follow from U+0100 on.
#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "formats/json.hpp"

namespace tercet {

// The bytes that a token stands for; the token's own text where it has a character outside the alphabet.
std::string bytes_of_token(std::string_view token);

class ByteMerges {
  public:
    // The `model` of a tokenizer.json. Throws UnsupportedError where it is no byte-level BPE, FormatError where a merge
    // names tokens that are not there.
    explicit ByteMerges(JsonValue model);

    std::size_t num_tokens() const noexcept { return ids_.size(); }
    std::int32_t highest_id() const noexcept { return highest_id_; }
    std::optional<std::int32_t> find(std::string_view token) const;  // written in the alphabet
    const std::string* bytes(std::int32_t token) const;              // null where no token has this id

    // A token of a word, and how many of its bytes it takes.
    struct Token {
        std::int32_t id;
        std::size_t num_bytes;
    };
    void append(std::string_view word, std::vector<Token>& tokens) const;

  private:
    struct Merge {
        std::uint32_t rank;
        std::int32_t id;
    };
    void read_vocabulary(JsonValue vocab);
    void read_merges(JsonValue merges);
    void read_unknown(JsonValue model);
    const Merge* merge_of(std::int32_t left, std::int32_t right) const;

    bool whole_words_ = false;  // a word that is a token is that token, even if merges would not make it
    std::int32_t highest_id_ = -1;
    std::array<std::int32_t, 256> byte_ids_{};  // -1: none, as some vocabularies have no token for bytes that text lacks
    std::int32_t unknown_ = -1;                 // stands for those; -1: they are left out
    bool joins_unknown_ = false;                // one stands for several in a row
    std::unordered_map<std::string, std::int32_t> ids_;             // token, in the alphabet
    std::unordered_map<std::int32_t, std::string> bytes_;           // id -> what it stands for
    std::unordered_map<std::uint64_t, Merge> merges_;               // left id, right id
};

}  // namespace tercet

// How byte-level vocabularies cut a text into words before they merge bytes: the rules that are in use, each written out by
// hand, since a regular expression from a file would be a program from a stranger.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "formats/json.hpp"

namespace tercet {

// A text as characters, and where each begins among the bytes; one more place than characters.
struct Characters {
    explicit Characters(std::string_view utf8);

    std::u32string characters;
    std::vector<std::size_t> places;
};

struct Span {
    std::size_t begin, end;  // characters
};

class WordRule {
  public:
    // The `pre_tokenizer` of a tokenizer.json. Throws UnsupportedError where it is of another kind.
    explicit WordRule(JsonValue pre_tokenizer);

    std::vector<Span> words(const std::u32string& text, Span whole) const;

  private:
    struct Step {
        enum class Kind : std::uint8_t { digits, digit_runs, gpt2, cl100k, digit_groups } kind;
        bool marks_are_letters = false;   // cl100k
        std::size_t max_digits = 0;       // cl100k and digit_groups; 0: any number
    };
    void add(JsonValue step);
    void add_pattern(JsonValue step);

    std::vector<Step> steps_;
    bool is_byte_level_ = false;
};

}  // namespace tercet

#include "tokenization/words.hpp"

#include <algorithm>
#include <cstdint>

#include "formats/failures.hpp"
#include "formats/utf8.hpp"
#include "tokenization/character_classes.hpp"
#include "tokenization/switches.hpp"

namespace tercet {
namespace {

using Text = std::u32string;

constexpr const char* english = R"((?i:'s|'t|'re|'ve|'m|'ll|'d))";
constexpr const char* blanks = R"(\s*[\r\n]+|\s+(?!\S)|\s+)";

// The pattern of cl100k and its descendants, which differ in what is a letter and how digits group.
std::string cl100k_pattern(bool marks_are_letters, const std::string& digits) {
    const std::string letters = marks_are_letters ? R"(\p{L}\p{M})" : R"(\p{L})";
    const std::string word = marks_are_letters ? "[" + letters + "]" : letters;
    return std::string(english) + R"(|[^\r\n\p{L}\p{N}]?)" + word + "+|" + digits + R"(| ?[^\s)" + letters +
           R"(\p{N}]+[\r\n]*|)" + blanks;
}

bool is_line_end(char32_t character) noexcept { return character == U'\r' || character == U'\n'; }

// Where a run of characters of one kind ends.
template <class Is>
std::size_t run(const Text& text, std::size_t at, std::size_t end, Is is, std::size_t most = SIZE_MAX) {
    std::size_t length = 0;
    while (at < end && length < most && is(text[at])) ++at, ++length;
    return at;
}

// \s+(?!\S)|\s+ : blanks, but the last one stays with the word that follows it.
std::size_t blanks_end(const Text& text, std::size_t at, std::size_t end) {
    const std::size_t behind = run(text, at, end, is_space);
    return behind == end || behind == at + 1 ? behind : behind - 1;
}

// 's|'t|'re|'ve|'m|'ll|'d ; where it ends, `at` where there is none. U+017F is an s to a pattern that ignores case.
std::size_t contraction_end(const Text& text, std::size_t at, std::size_t end, bool ignores_case) {
    if (text[at] != U'\'') return at;
    const auto letter = [&](std::size_t i) -> char32_t {
        if (at + i >= end) return 0;
        const char32_t character = text[at + i];
        if (ignores_case && character >= U'A' && character <= U'Z') return character + (U'a' - U'A');
        return ignores_case && character == 0x17F ? U's' : character;
    };
    const char32_t first = letter(1), second = letter(2);
    if (first == U's' || first == U't' || first == U'm' || first == U'd') return at + 2;
    const bool is_pair = ((first == U'r' || first == U'v') && second == U'e') || (first == U'l' && second == U'l');
    return is_pair ? at + 3 : at;
}

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
std::size_t gpt2_end(const Text& text, std::size_t at, std::size_t end) {
    if (const std::size_t found = contraction_end(text, at, end, false); found != at) return found;
    const std::size_t first = text[at] == U' ' && at + 1 < end ? at + 1 : at;
    const auto is_other = [](char32_t c) { return !is_space(c) && !is_letter(c) && !is_number(c); };
    if (is_letter(text[first])) return run(text, first, end, is_letter);
    if (is_number(text[first])) return run(text, first, end, is_number);
    if (is_other(text[first])) return run(text, first, end, is_other);
    return blanks_end(text, at, end);
}

std::size_t cl100k_end(const Text& text, std::size_t at, std::size_t end, bool marks_are_letters, std::size_t max_digits) {
    const auto is_word = [=](char32_t c) { return is_letter(c) || (marks_are_letters && is_mark(c)); };
    const auto is_other = [=](char32_t c) { return !is_space(c) && !is_word(c) && !is_number(c); };
    if (const std::size_t found = contraction_end(text, at, end, true); found != at) return found;
    const char32_t first = text[at];
    const bool may_lead = !is_line_end(first) && !is_letter(first) && !is_number(first);
    if (may_lead && at + 1 < end && is_word(text[at + 1])) return run(text, at + 1, end, is_word);
    if (is_word(first)) return run(text, at, end, is_word);
    if (is_number(first)) return run(text, at, end, is_number, max_digits == 0 ? SIZE_MAX : max_digits);
    const std::size_t other = first == U' ' && at + 1 < end ? at + 1 : at;
    if (is_other(text[other])) return run(text, run(text, other, end, is_other), end, is_line_end);
    // \s*[\r\n]+ : up to the last end of a line among these blanks.
    const std::size_t behind = run(text, at, end, is_space);
    for (std::size_t last = behind; last > at; --last)
        if (is_line_end(text[last - 1])) return last;
    return blanks_end(text, at, end);
}

// Groups of digits, and what is between them.
std::size_t digit_groups_end(const Text& text, std::size_t at, std::size_t end, std::size_t most) {
    if (is_number(text[at])) return run(text, at, end, is_number, most == 0 ? SIZE_MAX : most);
    return run(text, at, end, [](char32_t c) { return !is_number(c); });
}

}  // namespace

Characters::Characters(std::string_view utf8) {
    std::size_t place = 0;
    while (place < utf8.size()) {
        const Utf8Step step = utf8_step(utf8.substr(place));
        characters += step.character;
        places.push_back(place);
        place += step.size;
    }
    places.push_back(place);
}

WordRule::WordRule(JsonValue pre_tokenizer) {
    if (pre_tokenizer["type"].text() == "Sequence") pre_tokenizer["pretokenizers"].for_each([&](JsonValue step) { add(step); });
    else add(pre_tokenizer);
    if (!is_byte_level_) throw UnsupportedError("it is not byte-level");
}

void WordRule::add(JsonValue step) {
    using Kind = Step::Kind;
    const std::string_view type = step["type"].text();
    if (is_byte_level_) throw UnsupportedError("it cuts words behind the step of the kind ByteLevel");
    if (type == "Digits") {
        steps_.push_back({is_set(step, "individual_digits") ? Kind::digits : Kind::digit_runs});
    } else if (type == "Split") {
        add_pattern(step);
    } else if (type == "ByteLevel" && !is_set(step, "add_prefix_space")) {
        is_byte_level_ = true;
        if (step["use_regex"].is_null() || is_set(step, "use_regex")) steps_.push_back({Kind::gpt2});
    } else {
        throw UnsupportedError("its pre-tokenizer is of the kind " + step["type"].shown());
    }
}

void WordRule::add_pattern(JsonValue step) {
    using Kind = Step::Kind;
    const std::string_view pattern = step["pattern"]["Regex"].text();
    const bool is_isolated = step["behavior"].text() == "Isolated" && !is_set(step, "invert");
    const std::pair<const char*, std::size_t> digits[] = {{R"(\p{N})", 1}, {R"(\p{N}{1,3})", 3}, {R"(\p{N}+)", 0}};
    for (const auto& [spelling, most] : digits) {
        for (const bool marks : {false, true})
            if (is_isolated && pattern == cl100k_pattern(marks, spelling)) return steps_.push_back({Kind::cl100k, marks, most});
        if (is_isolated && pattern == spelling) return steps_.push_back({Kind::digit_groups, false, most});
    }
    throw UnsupportedError("it cuts words by the pattern " + step["pattern"]["Regex"].shown());
}

std::vector<Span> WordRule::words(const std::u32string& text, Span whole) const {
    std::vector<Span> words;
    if (whole.begin != whole.end) words.push_back(whole);
    for (const Step& step : steps_) {
        std::vector<Span> cut;
        for (const auto [begin, end] : words) {
            for (std::size_t at = begin; at < end;) {
                std::size_t next = end;
                switch (step.kind) {
                    case Step::Kind::digits: next = digit_groups_end(text, at, end, 1); break;
                    case Step::Kind::digit_runs: next = digit_groups_end(text, at, end, 0); break;
                    case Step::Kind::digit_groups: next = digit_groups_end(text, at, end, step.max_digits); break;
                    case Step::Kind::gpt2: next = gpt2_end(text, at, end); break;
                    case Step::Kind::cl100k: next = cl100k_end(text, at, end, step.marks_are_letters, step.max_digits); break;
                }
                cut.push_back({at, next});
                at = next;
            }
        }
        words = std::move(cut);
    }
    return words;
}

}  // namespace tercet

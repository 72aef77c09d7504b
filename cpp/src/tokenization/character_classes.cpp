#include "tokenization/character_classes.hpp"

#include <algorithm>
#include <iterator>

#include "tokenization/unicode_ranges.hpp"

namespace tercet {
namespace {

template <std::size_t count>
bool is_within(const CharacterRange (&ranges)[count], char32_t character) noexcept {
    const auto* const behind = std::upper_bound(std::begin(ranges), std::end(ranges), character,
                                                [](char32_t wanted, const CharacterRange& range) { return wanted < range.first; });
    return behind != std::begin(ranges) && character <= std::prev(behind)->last;
}

}  // namespace

bool is_letter(char32_t character) noexcept { return is_within(letter_ranges, character); }
bool is_number(char32_t character) noexcept { return is_within(number_ranges, character); }
bool is_mark(char32_t character) noexcept { return is_within(mark_ranges, character); }
bool is_space(char32_t character) noexcept { return is_within(space_ranges, character); }

}  // namespace tercet

// General categories of characters, as patterns of tokenizers name them: \p{L}, \p{N}, \p{M} and \s.
#pragma once

namespace tercet {

bool is_letter(char32_t character) noexcept;
bool is_number(char32_t character) noexcept;
bool is_mark(char32_t character) noexcept;
bool is_space(char32_t character) noexcept;

}  // namespace tercet

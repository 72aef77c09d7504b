// UTF-8, strictly: no surrogates, nothing longer than it must be, nothing beyond U+10FFFF.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace tercet {

// What the first bytes of a text are. `size` is that of the character; of bytes that can never become one, all that could
// still have (what a reader shows as one U+FFFD); of an unfinished character, all there are.
struct Utf8Step {
    enum class Kind : std::uint8_t { character, invalid, unfinished } kind;
    std::size_t size;
    char32_t character;
};
Utf8Step utf8_step(std::string_view bytes) noexcept;  // of at least one byte

bool is_utf8(std::string_view bytes) noexcept;
void append_utf8(std::string& text, char32_t character);

// Bytes that come in pieces, as text: a character waits until it is whole.
class Utf8Stream {
  public:
    std::string push(std::string_view bytes);  // what is certain now
    std::string finish();                      // U+FFFD if a character is unfinished
    std::string_view held() const noexcept { return held_; }

  private:
    std::string held_;
};

}  // namespace tercet

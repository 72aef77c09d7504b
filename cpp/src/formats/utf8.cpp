#include "formats/utf8.hpp"

namespace tercet {
namespace {

constexpr const char* replacement = "\xEF\xBF\xBD";

}  // namespace

Utf8Step utf8_step(std::string_view bytes) noexcept {
    using Kind = Utf8Step::Kind;
    const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(bytes[i]); };
    const std::uint8_t first = byte(0);
    if (first < 0x80) return {Kind::character, 1, first};
    if (first < 0xC2 || first > 0xF4) return {Kind::invalid, 1, 0};
    const std::size_t size = first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
    char32_t character = first & (0x7FU >> size);
    for (std::size_t i = 1; i < size; ++i) {
        if (i == bytes.size()) return {Kind::unfinished, i, 0};
        // The second byte keeps out surrogates, detours and what lies beyond the last character.
        const std::uint8_t lowest = i > 1 ? 0x80 : first == 0xE0 ? 0xA0 : first == 0xF0 ? 0x90 : 0x80;
        const std::uint8_t highest = i > 1 ? 0xBF : first == 0xED ? 0x9F : first == 0xF4 ? 0x8F : 0xBF;
        if (byte(i) < lowest || byte(i) > highest) return {Kind::invalid, i, 0};
        character = character << 6 | (byte(i) & 0x3F);
    }
    return {Kind::character, size, character};
}

bool is_utf8(std::string_view bytes) noexcept {
    while (!bytes.empty()) {
        const Utf8Step step = utf8_step(bytes);
        if (step.kind != Utf8Step::Kind::character) return false;
        bytes.remove_prefix(step.size);
    }
    return true;
}

void append_utf8(std::string& text, char32_t character) {
    const auto tail = [&](int shift) { return static_cast<char>(0x80 | (character >> shift & 0x3F)); };
    if (character < 0x80) {
        text += static_cast<char>(character);
    } else if (character < 0x800) {
        (text += static_cast<char>(0xC0 | character >> 6)) += tail(0);
    } else if (character < 0x10000) {
        ((text += static_cast<char>(0xE0 | character >> 12)) += tail(6)) += tail(0);
    } else {
        (((text += static_cast<char>(0xF0 | character >> 18)) += tail(12)) += tail(6)) += tail(0);
    }
}

std::string Utf8Stream::push(std::string_view bytes) {
    held_ += bytes;
    std::string text;
    std::string_view rest = held_;
    while (!rest.empty()) {
        const Utf8Step step = utf8_step(rest);
        if (step.kind == Utf8Step::Kind::unfinished) break;
        text += step.kind == Utf8Step::Kind::character ? rest.substr(0, step.size) : std::string_view(replacement);
        rest.remove_prefix(step.size);
    }
    held_.erase(0, held_.size() - rest.size());
    return text;
}

std::string Utf8Stream::finish() {
    if (held_.empty()) return {};
    held_.clear();
    return replacement;
}

}  // namespace tercet

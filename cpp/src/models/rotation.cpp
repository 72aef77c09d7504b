#include "models/rotation.hpp"

#include <algorithm>
#include <bit>

namespace tercet {
namespace {

std::vector<std::string> names(const ConfigFields& fields, std::string_view key) {
    std::vector<std::string> made;
    if (!fields[key].is(JsonValue::Kind::array)) fields.refuse(key, "a list of tensor names");
    fields[key].for_each([&](JsonValue name) {
        if (!name.is(JsonValue::Kind::string)) fields.refuse(key, "a list of tensor names");
        if (std::find(made.begin(), made.end(), name.text()) != made.end()) fields.refuse(key, "each name once");
        made.emplace_back(name.text());
    });
    return made;
}

int hex_digit(char character) noexcept {
    if (character >= '0' && character <= '9') return character - '0';
    const char lower = static_cast<char>(character | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

// Bit i, most significant first, is 1 where sign i is -1; the bits behind the last sign are 0.
std::vector<float> signs_of(const ConfigFields& fields, std::size_t width, JsonValue value) {
    const std::string_view digits = value.is(JsonValue::Kind::string) ? value.text() : std::string_view();
    std::vector<float> signs(width, 1.0F);
    bool is_good = digits.size() == 2 * ((width + 7) / 8);
    for (std::size_t i = 0; i < 4 * digits.size() && is_good; ++i) {
        const int digit = hex_digit(digits[i / 4]);
        const bool is_set = (digit >> (3 - i % 4) & 1) != 0;
        is_good = digit >= 0 && (i < width || !is_set);
        if (is_set && i < width) signs[i] = -1.0F;
    }
    if (!is_good) fields.refuse("signs", "hexadecimal digits of " + std::to_string(width) + " bits");
    return signs;
}

}  // namespace

RotatedBasis read_rotation(const ConfigFields& fields) {
    fields.only({"block_size", "inputs", "outputs", "signs"});
    fields.require({"block_size", "inputs"});
    RotatedBasis basis;
    basis.block_size = fields.whole("block_size", 2);
    if (!std::has_single_bit(basis.block_size)) fields.refuse("block_size", "a power of two");
    basis.inputs = names(fields, "inputs");
    if (fields.has("outputs")) basis.outputs = names(fields, "outputs");
    if (!fields.has("signs")) return basis;
    if (!fields["signs"].is(JsonValue::Kind::object)) fields.refuse("signs", "an object of widths and signs");
    fields["signs"].for_each_entry([&](std::string_view width, JsonValue signs) {
        std::size_t size = 0;
        const bool is_decimal = !width.empty() && width.size() <= 8 && width.front() != '0' &&
                                width.find_first_not_of("0123456789") == width.npos;
        for (const char digit : width) size = 10 * size + static_cast<std::size_t>(digit - '0');
        if (!is_decimal || size > max_dimension) fields.refuse("signs", "widths in decimal, at most 2^24");
        basis.signs.emplace(size, signs_of(fields, size, signs));
    });
    return basis;
}

}  // namespace tercet

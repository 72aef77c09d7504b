// Yes or no, as a tokenizer.json says it.
#pragma once

#include <string>
#include <string_view>

#include "formats/failures.hpp"
#include "formats/json.hpp"

namespace tercet {

// False where it is absent or null; throws FormatError where it is something else than true or false.
inline bool is_set(JsonValue object, std::string_view key) {
    const JsonValue value = object[key];
    if (!value.is_null() && !value.is(JsonValue::Kind::boolean))
        throw FormatError((std::string(key) + " is ").append(value.shown()).append(", expected true or false"));
    return value.boolean();
}

}  // namespace tercet

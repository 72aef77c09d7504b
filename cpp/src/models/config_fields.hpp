// Checks of single values of a model's config: src/tercet/models/field_checks.py.
#pragma once

#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>

#include "formats/failures.hpp"
#include "formats/json.hpp"

namespace tercet {

// An int32 holds a row of int8 activations times ternary codes of this depth.
inline constexpr std::int64_t max_dimension = 1 << 24;
inline constexpr double largest_float32 = 0x1p128 - 0x1p104;

// An object of the config. A key that is absent takes its default where the caller gives one, and is an error elsewhere.
class ConfigFields {
  public:
    ConfigFields(JsonValue value, std::string file, std::string where)
        : fields_(value, std::move(file), std::move(where)) {}

    bool has(std::string_view key) const noexcept { return fields_.value().has(key); }
    bool is_null(std::string_view key) const noexcept { return fields_[key].is_null(); }
    JsonValue operator[](std::string_view key) const noexcept { return fields_[key]; }
    void only(std::initializer_list<std::string_view> known) const { fields_.only(known); }
    [[noreturn]] void refuse(std::string_view key, const std::string& expected) const { fields_.refuse(key, expected); }

    void require(std::initializer_list<std::string_view> keys) const {
        for (const std::string_view key : keys)
            if (!has(key)) fields_.refuse(key, "it to be there");
    }
    std::size_t whole(std::string_view key, std::int64_t lowest = 1, std::int64_t highest = max_dimension) const {
        return static_cast<std::size_t>(fields_.integer(key, lowest, highest));
    }
    double positive(std::string_view key) const { return checked_positive(key, fields_[key]); }
    double checked_positive(std::string_view key, JsonValue value) const {
        const bool is_number = value.is(JsonValue::Kind::integer) || value.is(JsonValue::Kind::real);
        const double number = is_number ? value.number() : 0;
        if (!(number > 0) || number > largest_float32) refuse(key, "a positive number that float32 holds");
        return number;
    }
    bool flag(std::string_view key, bool absent) const { return has(key) ? flag(key) : absent; }
    bool flag(std::string_view key) const {
        if (!fields_[key].is(JsonValue::Kind::boolean)) refuse(key, "true or false");
        return fields_[key].boolean();
    }
    std::string choice(std::string_view key, std::initializer_list<std::string_view> choices) const {
        std::string listed;
        for (const std::string_view one : choices) {
            if (fields_[key].is(JsonValue::Kind::string) && fields_[key].text() == one) return std::string(one);
            listed.append(listed.empty() ? "" : ", ").append(one);
        }
        refuse(key, "one of " + listed);
    }

  private:
    Fields fields_;
};

}  // namespace tercet

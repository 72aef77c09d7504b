// JSON from strangers, read as strictly as src/tercet/formats/fields.py reads it: UTF-8 without lone surrogates, no NaN or
// Infinity, no key twice in one object, no number out of range, and not without bound: at most 500 levels, 2^23 values.
//
// A document is an array of small nodes over its text, so that a vocabulary of 100,000 tokens is a few megabytes. A value
// is a node of it: cheap to copy, valid while the document lives.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

namespace tercet {

class Json;

class JsonValue {
  public:
    enum class Kind : std::uint8_t { null, boolean, integer, real, string, array, object };

    Kind kind() const noexcept;
    bool is(Kind wanted) const noexcept { return kind() == wanted; }
    bool is_null() const noexcept { return is(Kind::null); }

    // Of a string: its characters. Of everything else: as the document spells it.
    std::string_view text() const noexcept;
    bool boolean() const noexcept { return text() == "true"; }

    // Of arrays and objects.
    std::size_t size() const noexcept;
    template <class Visit>
    void for_each(Visit visit) const;  // visit(JsonValue)
    template <class Visit>
    void for_each_entry(Visit visit) const;  // visit(std::string_view key, JsonValue)

    // Of an object: the value of a key, null where there is none.
    JsonValue operator[](std::string_view key) const noexcept;
    bool has(std::string_view key) const noexcept;  // with whatever value, null too

    // Of an integer: its value, if that lies within bounds.
    bool integer_within(std::int64_t lowest, std::int64_t highest, std::int64_t& value) const noexcept;
    // Of a number of either kind.
    double number() const;

    // The value for a message, short and harmless for a terminal.
    std::string shown() const;

  private:
    friend class Json;
    friend class JsonParser;
    JsonValue(const Json* document, std::uint32_t node) noexcept : document_(document), node_(node) {}

    const Json* document_;
    std::uint32_t node_;
};

class Json {
  public:
    // Throws FormatError: "<what> is not valid JSON: ...".
    Json(std::string text, const std::string& what);
    Json(const Json&) = delete;
    Json& operator=(const Json&) = delete;

    JsonValue root() const noexcept { return {this, 1}; }

  private:
    friend class JsonValue;
    friend class JsonParser;

    struct Node {
        JsonValue::Kind kind;
        bool is_unescaped;   // the characters are in unescaped_
        std::uint32_t begin, size;  // of the characters; of an array or object, size is the number of values or entries
        std::uint32_t end;   // the node behind it and all that it holds
    };

    std::string text_, unescaped_;
    std::vector<Node> nodes_;  // the first stands for null where there is nothing
};

template <class Visit>
void JsonValue::for_each(Visit visit) const {
    for (std::uint32_t node = node_ + 1; node != document_->nodes_[node_].end; node = document_->nodes_[node].end)
        visit(JsonValue(document_, node));
}

template <class Visit>
void JsonValue::for_each_entry(Visit visit) const {
    for (std::uint32_t node = node_ + 1; node != document_->nodes_[node_].end; node = document_->nodes_[node + 1].end)
        visit(JsonValue(document_, node).text(), JsonValue(document_, node + 1));
}

// Decimal text, and numbers as JSON spells them, whatever the program's locale is.
double parse_number(std::string_view text);

// An object of a file, taken apart by accessors that name file and field when they fail (FormatError).
class Fields {
  public:
    Fields(JsonValue value, std::string file, std::string where);

    const JsonValue& value() const noexcept { return value_; }
    JsonValue operator[](std::string_view key) const noexcept { return value_[key]; }
    bool contains(std::string_view key) const noexcept { return !value_[key].is_null(); }  // with a value that is not null

    [[noreturn]] void refuse(std::string_view key, const std::string& expected) const;
    void only(std::initializer_list<std::string_view> known) const;
    std::uint64_t integer(std::string_view key, std::int64_t lowest = 0, std::int64_t highest = INT64_MAX) const;
    std::string text(std::string_view key) const;
    JsonValue list(std::string_view key) const;
    Fields object(std::string_view key) const;

  private:
    std::string name_of(std::string_view key) const;

    JsonValue value_;
    std::string file_, where_;
};

}  // namespace tercet

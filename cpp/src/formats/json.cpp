#include "formats/json.hpp"

#include <algorithm>
#include <cmath>
#include <locale>
#include <sstream>
#include <unordered_set>

#include "formats/failures.hpp"
#include "formats/utf8.hpp"

namespace tercet {

using Kind = JsonValue::Kind;

namespace {

constexpr int max_depth_of_values = 500;
constexpr std::size_t max_values = 1 << 23, max_text_bytes = 1 << 30, max_digits = 4300, max_shown = 80;

bool is_digit(char character) noexcept { return character >= '0' && character <= '9'; }

}  // namespace

double parse_number(std::string_view text) {
    std::istringstream stream{std::string(text)};
    stream.imbue(std::locale::classic());
    double value = 0;
    stream >> value;  // what is too large becomes the largest number and sets a mark
    return stream.fail() && value != 0 ? HUGE_VAL : value;
}

class JsonParser {
  public:
    JsonParser(Json& document, const std::string& what) : document_(document), text_(document.text_), what_(what) {}

    void parse() {
        if (text_.size() > max_text_bytes) fail("it is too large");
        if (!is_utf8(text_)) fail("it is not UTF-8");
        document_.nodes_.push_back({Kind::null, false, 0, 0, 1});
        value(0);
        skip_space();
        if (at_ != text_.size()) fail("something follows its end");
    }

  private:
    [[noreturn]] void fail(const std::string& reason) const {
        throw FormatError(what_ + " is not valid JSON: " + reason + " (at character " + std::to_string(at_) + ")");
    }

    char peek() const noexcept { return at_ < text_.size() ? text_[at_] : '\0'; }
    void skip_space() noexcept {
        while (peek() == ' ' || peek() == '\t' || peek() == '\n' || peek() == '\r') ++at_;
    }
    bool take(char wanted) noexcept {
        skip_space();
        if (peek() != wanted) return false;
        ++at_;
        return true;
    }

    std::uint32_t add(Kind kind) {
        if (document_.nodes_.size() > max_values) fail("it holds too many values");
        const auto index = static_cast<std::uint32_t>(document_.nodes_.size());
        document_.nodes_.push_back({kind, false, static_cast<std::uint32_t>(at_), 0, index + 1});
        return index;
    }

    void value(int depth) {
        skip_space();
        if (depth > max_depth_of_values) fail("it is nested too deeply");
        switch (peek()) {
            case '{': return object(depth);
            case '[': return array(depth);
            case '"': return string();
            case 'n': return word("null", Kind::null);
            case 't': return word("true", Kind::boolean);
            case 'f': return word("false", Kind::boolean);
            default: return number();
        }
    }

    void word(std::string_view spelling, Kind kind) {
        if (text_.compare(at_, spelling.size(), spelling) != 0) fail("a value is expected");
        document_.nodes_[add(kind)].size = static_cast<std::uint32_t>(spelling.size());
        at_ += spelling.size();
    }

    void digits() {
        if (!is_digit(peek())) fail("a digit is expected");
        while (is_digit(peek())) ++at_;
    }

    void number() {
        const std::size_t begin = at_;
        const std::uint32_t node = add(Kind::integer);
        if (peek() == '-') ++at_;
        if (!is_digit(peek())) fail("a value is expected");
        if (peek() == '0') ++at_;
        else digits();
        if (at_ - begin > max_digits) fail("a number has too many digits");
        Kind kind = Kind::integer;
        if (peek() == '.') {
            ++at_;
            digits();
            kind = Kind::real;
        }
        if (peek() == 'e' || peek() == 'E') {
            ++at_;
            if (peek() == '+' || peek() == '-') ++at_;
            digits();
            kind = Kind::real;
        }
        document_.nodes_[node].kind = kind;
        document_.nodes_[node].size = static_cast<std::uint32_t>(at_ - begin);
        if (kind == Kind::real && !std::isfinite(parse_number(std::string_view(text_).substr(begin, at_ - begin))))
            fail("a number is out of range");
    }

    void string() {
        const std::uint32_t node = add(Kind::string);
        const std::size_t begin = ++at_, kept = document_.unescaped_.size();
        bool is_unescaped = false;
        for (;; ++at_) {
            if (at_ == text_.size()) fail("a string has no end");
            if (static_cast<unsigned char>(text_[at_]) < 0x20) fail("a string holds a control character");
            if (text_[at_] == '"') break;
            if (text_[at_] == '\\') {
                if (!is_unescaped) document_.unescaped_.append(text_, begin, at_ - begin);
                is_unescaped = true;
                escape();
            } else if (is_unescaped) {
                document_.unescaped_ += text_[at_];
            }
        }
        Json::Node& made = document_.nodes_[node];
        made.is_unescaped = is_unescaped;
        made.begin = static_cast<std::uint32_t>(is_unescaped ? kept : begin);
        made.size = static_cast<std::uint32_t>((is_unescaped ? document_.unescaped_.size() : at_) - made.begin);
        ++at_;
    }

    // At a backslash; leaves at_ on the last character of the escape.
    void escape() {
        constexpr std::string_view names = "\"\\/bfnrt", values = "\"\\/\b\f\n\r\t";
        ++at_;
        if (peek() == 'u') {
            char32_t character = code_unit();
            if (character >= 0xD800 && character < 0xDC00 && text_.compare(at_ + 1, 2, "\\u") == 0) {
                at_ += 2;
                const char32_t low = code_unit();
                if (low < 0xDC00 || low > 0xDFFF) fail("a string holds half a surrogate pair");
                character = 0x10000 + ((character - 0xD800) << 10) + (low - 0xDC00);
            }
            if (character >= 0xD800 && character < 0xE000) fail("a string holds half a surrogate pair");
            append_utf8(document_.unescaped_, character);
            return;
        }
        const std::size_t found = at_ < text_.size() ? names.find(text_[at_]) : names.npos;
        if (found == names.npos) fail("a string holds an unknown escape");
        document_.unescaped_ += values[found];
    }

    // At the u of \uXXXX; leaves at_ on the last digit.
    char32_t code_unit() {
        char32_t value = 0;
        for (int i = 0; i < 4; ++i) {
            ++at_;
            const char digit = static_cast<char>(peek() | 0x20);
            if (is_digit(peek())) value = value << 4 | static_cast<char32_t>(peek() - '0');
            else if (digit >= 'a' && digit <= 'f') value = value << 4 | static_cast<char32_t>(digit - 'a' + 10);
            else fail("a string holds an unknown escape");
        }
        return value;
    }

    void array(int depth) {
        const std::uint32_t node = add(Kind::array);
        ++at_;
        std::uint32_t size = 0;
        if (!take(']')) {
            do {
                value(depth + 1);
                ++size;
            } while (take(','));
            if (!take(']')) fail("a comma or ] is expected");
        }
        close(node, size);
    }

    void object(int depth) {
        const std::uint32_t node = add(Kind::object);
        ++at_;
        std::uint32_t size = 0;
        if (!take('}')) {
            do {
                skip_space();
                if (peek() != '"') fail("a key is expected");
                string();
                if (!take(':')) fail("a colon is expected");
                value(depth + 1);
                ++size;
            } while (take(','));
            if (!take('}')) fail("a comma or } is expected");
        }
        close(node, size);
        std::unordered_set<std::string_view> keys;
        JsonValue(&document_, node).for_each_entry([&](std::string_view key, JsonValue) {
            if (!keys.insert(key).second) fail("a key appears twice in one object");
        });
    }

    void close(std::uint32_t node, std::uint32_t size) {
        document_.nodes_[node].size = size;
        document_.nodes_[node].end = static_cast<std::uint32_t>(document_.nodes_.size());
    }

    Json& document_;
    const std::string& text_;
    const std::string& what_;
    std::size_t at_ = 0;
};

Json::Json(std::string text, const std::string& what) : text_(std::move(text)) { JsonParser(*this, what).parse(); }

Kind JsonValue::kind() const noexcept { return document_->nodes_[node_].kind; }
std::size_t JsonValue::size() const noexcept { return document_->nodes_[node_].size; }

std::string_view JsonValue::text() const noexcept {
    const Json::Node& node = document_->nodes_[node_];
    const std::string_view characters = node.is_unescaped ? document_->unescaped_ : document_->text_;
    if (node.kind == Kind::array || node.kind == Kind::object) return node.kind == Kind::array ? "[...]" : "{...}";
    return node_ == 0 ? "null" : characters.substr(node.begin, node.size);
}

JsonValue JsonValue::operator[](std::string_view wanted) const noexcept {
    JsonValue found(document_, 0);
    if (is(Kind::object))
        for_each_entry([&](std::string_view key, JsonValue value) {
            if (key == wanted) found = value;
        });
    return found;
}

bool JsonValue::has(std::string_view key) const noexcept { return (*this)[key].node_ != 0; }

bool JsonValue::integer_within(std::int64_t lowest, std::int64_t highest, std::int64_t& value) const noexcept {
    if (!is(Kind::integer)) return false;
    std::string_view digits = text();
    const bool is_negative = digits.front() == '-';
    if (is_negative) digits.remove_prefix(1);
    if (digits.size() > 19) return false;  // 2^63 has 19 digits
    std::uint64_t magnitude = 0;
    for (const char digit : digits) magnitude = 10 * magnitude + static_cast<std::uint64_t>(digit - '0');
    if (magnitude > static_cast<std::uint64_t>(INT64_MAX)) return false;
    const auto found = is_negative ? -static_cast<std::int64_t>(magnitude) : static_cast<std::int64_t>(magnitude);
    if (found < lowest || found > highest) return false;
    value = found;
    return true;
}

double JsonValue::number() const { return parse_number(text()); }

std::string JsonValue::shown() const {
    std::string made = is(Kind::string) ? "\"" : "";
    for (const char character : text().substr(0, max_shown))
        made += static_cast<unsigned char>(character) < 0x20 || character == 0x7F ? '?' : character;
    if (text().size() > max_shown) {
        while ((made.back() & 0xC0) == 0x80) made.pop_back();  // not in the middle of a character
        if ((made.back() & 0x80) != 0) made.pop_back();
        made += "...";
    }
    return is(Kind::string) ? made + '"' : made;
}

Fields::Fields(JsonValue value, std::string file, std::string where)
    : value_(value), file_(std::move(file)), where_(std::move(where)) {
    if (!value_.is(Kind::object))
        throw FormatError(file_ + ": " + where_ + " is " + value_.shown() + ", expected a JSON object");
}

std::string Fields::name_of(std::string_view key) const { return (where_ + ".").append(key); }

void Fields::refuse(std::string_view key, const std::string& expected) const {
    throw FormatError(file_ + ": " + name_of(key) + " is " + value_[key].shown() + ", expected " + expected);
}

void Fields::only(std::initializer_list<std::string_view> known) const {
    value_.for_each_entry([&](std::string_view key, JsonValue) {
        if (std::find(known.begin(), known.end(), key) == known.end()) refuse(key, "no such key");
    });
}

std::uint64_t Fields::integer(std::string_view key, std::int64_t lowest, std::int64_t highest) const {
    std::int64_t value = 0;
    if (!value_[key].integer_within(lowest, highest, value))
        refuse(key, "a whole number from " + std::to_string(lowest) + " to " + std::to_string(highest));
    return static_cast<std::uint64_t>(value);
}

std::string Fields::text(std::string_view key) const {
    if (!value_[key].is(Kind::string)) refuse(key, "a string");
    return std::string(value_[key].text());
}

JsonValue Fields::list(std::string_view key) const {
    if (!value_[key].is(Kind::array)) refuse(key, "a list");
    return value_[key];
}

Fields Fields::object(std::string_view key) const { return {value_[key], file_, name_of(key)}; }

}  // namespace tercet

#include "tokenization/byte_merges.hpp"

#include <algorithm>
#include <queue>

#include "formats/failures.hpp"
#include "formats/utf8.hpp"
#include "tokenization/switches.hpp"

namespace tercet {
namespace {

constexpr bool is_printable(int byte) noexcept {
    return (byte >= 0x21 && byte < 0x7F) || (byte >= 0xA1 && byte <= 0xFF && byte != 0xAD);
}

struct Alphabet {
    std::array<char32_t, 256> characters{};
    std::array<std::int16_t, 0x144> bytes{};  // by character, -1 for none
};

constexpr Alphabet make_alphabet() {
    Alphabet alphabet;
    alphabet.bytes.fill(-1);
    char32_t next = 0x100;
    for (int byte = 0; byte < 256; ++byte) {
        const char32_t character = is_printable(byte) ? static_cast<char32_t>(byte) : next++;
        alphabet.characters[static_cast<std::size_t>(byte)] = character;
        alphabet.bytes[character] = static_cast<std::int16_t>(byte);
    }
    return alphabet;
}

constexpr Alphabet alphabet = make_alphabet();

std::string in_alphabet(int byte) {
    std::string text;
    append_utf8(text, alphabet.characters[static_cast<std::size_t>(byte)]);
    return text;
}

constexpr std::uint64_t pair_of(std::int32_t left, std::int32_t right) noexcept {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
}

// A piece of a word that is being merged, linked to its neighbours; one that has been swallowed has no bytes.
struct Piece {
    std::int32_t id;
    std::uint32_t num_bytes;
    std::int32_t previous, next;  // -1: none
};

// A pair that may be merged: the lowest rank first, the leftmost of equal ones.
struct Candidate {
    std::uint32_t rank;
    std::int32_t left;
    std::int32_t id;  // what it becomes
    bool operator<(const Candidate& other) const noexcept {
        return rank != other.rank ? rank > other.rank : left > other.left;
    }
};

}  // namespace

std::string bytes_of_token(std::string_view token) {
    std::string bytes;
    for (std::string_view rest = token; !rest.empty();) {
        const Utf8Step step = utf8_step(rest);
        if (step.character >= alphabet.bytes.size() || alphabet.bytes[step.character] < 0) return std::string(token);
        bytes += static_cast<char>(alphabet.bytes[step.character]);
        rest.remove_prefix(step.size);
    }
    return bytes;
}

ByteMerges::ByteMerges(JsonValue model) {
    const auto is_absent = [&](std::string_view key) { return model[key].is_null() || model[key].text().empty(); };
    if (!model["type"].is_null() && model["type"].text() != "BPE") throw UnsupportedError("its model is of the kind " + model["type"].shown());
    if (!is_absent("continuing_subword_prefix") || !is_absent("end_of_word_suffix")) throw UnsupportedError("its tokens have prefixes or suffixes");
    if (is_set(model, "byte_fallback")) throw UnsupportedError("its bytes are tokens of their own (byte_fallback)");
    whole_words_ = is_set(model, "ignore_merges");
    read_vocabulary(model["vocab"]);
    read_merges(model["merges"]);
    read_unknown(model);
}

void ByteMerges::read_vocabulary(JsonValue vocab) {
    if (!vocab.is(JsonValue::Kind::object)) throw FormatError("its vocabulary is " + vocab.shown() + ", expected an object");
    vocab.for_each_entry([&](std::string_view token, JsonValue value) {
        std::int64_t id = 0;
        if (!value.integer_within(0, INT32_MAX, id)) throw FormatError("a token has the id " + value.shown());
        const auto number = static_cast<std::int32_t>(id);
        std::string bytes = bytes_of_token(token);
        if (!bytes_.emplace(number, std::move(bytes)).second) throw UnsupportedError("two tokens have the id " + value.shown());
        ids_.emplace(token, number);
        highest_id_ = std::max(highest_id_, number);
    });
    for (int byte = 0; byte < 256; ++byte) byte_ids_[static_cast<std::size_t>(byte)] = find(in_alphabet(byte)).value_or(-1);
}

void ByteMerges::read_unknown(JsonValue model) {
    joins_unknown_ = is_set(model, "fuse_unk");
    if (model["unk_token"].is_null()) return;
    const auto found = find(model["unk_token"].text());
    unknown_ = found.value_or(-1);
    const bool is_needed = std::find(byte_ids_.begin(), byte_ids_.end(), -1) != byte_ids_.end();
    if (!found && is_needed) throw UnsupportedError("its unknown token, " + model["unk_token"].shown() + ", is not in the vocabulary");
}

void ByteMerges::read_merges(JsonValue merges) {
    if (!merges.is(JsonValue::Kind::array)) throw FormatError("its merges are " + merges.shown() + ", expected a list");
    std::uint32_t rank = 0;
    merges.for_each([&](JsonValue merge) {
        std::vector<std::string> parts;  // two tokens, or both in one text with a space between them
        if (merge.is(JsonValue::Kind::array)) {
            merge.for_each([&](JsonValue part) { parts.emplace_back(part.text()); });
        } else {
            const std::string both(merge.text());
            const std::size_t space = both.find(' ');
            if (space != both.npos && both.find(' ', space + 1) == both.npos) parts = {both.substr(0, space), both.substr(space + 1)};
        }
        if (parts.size() != 2) throw FormatError("a merge is " + merge.shown() + ", expected two tokens");
        const auto left = find(parts[0]), right = find(parts[1]), joined = find(parts[0] + parts[1]);
        if (!left || !right || !joined) throw FormatError("the merge of " + parts[0] + " and " + parts[1] + " names no tokens of the vocabulary");
        merges_[pair_of(*left, *right)] = {rank++, *joined};  // the last of equal ones counts
    });
}

std::optional<std::int32_t> ByteMerges::find(std::string_view token) const {
    const auto found = ids_.find(std::string(token));
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
}

const std::string* ByteMerges::bytes(std::int32_t token) const {
    const auto found = bytes_.find(token);
    return found == bytes_.end() ? nullptr : &found->second;
}

const ByteMerges::Merge* ByteMerges::merge_of(std::int32_t left, std::int32_t right) const {
    const auto found = merges_.find(pair_of(left, right));
    return found == merges_.end() ? nullptr : &found->second;
}

void ByteMerges::append(std::string_view word, std::vector<Token>& tokens) const {
    if (whole_words_) {
        std::string written;
        for (const char byte : word) append_utf8(written, alphabet.characters[static_cast<std::uint8_t>(byte)]);
        if (const auto found = find(written)) return tokens.push_back({*found, word.size()});
    }
    std::vector<Piece> pieces;
    bool was_unknown = false;
    for (const char byte : word) {
        const std::int32_t id = byte_ids_[static_cast<std::uint8_t>(byte)];
        const auto at = static_cast<std::int32_t>(pieces.size());
        if (id < 0 && was_unknown && joins_unknown_) ++pieces.back().num_bytes;
        else if (id >= 0 || unknown_ >= 0) pieces.push_back({id >= 0 ? id : unknown_, 1, at - 1, at + 1});
        was_unknown = id < 0 && unknown_ >= 0;
    }
    if (!pieces.empty()) pieces.back().next = -1;
    std::priority_queue<Candidate> candidates;
    const auto piece = [&](std::int32_t at) -> Piece& { return pieces[static_cast<std::size_t>(at)]; };
    const auto consider = [&](std::int32_t left) {
        if (left < 0 || piece(left).next < 0) return;
        if (const Merge* merge = merge_of(piece(left).id, piece(piece(left).next).id))
            candidates.push({merge->rank, left, merge->id});
    };
    for (std::size_t i = 0; i < pieces.size(); ++i) consider(static_cast<std::int32_t>(i));
    while (!candidates.empty()) {
        const Candidate best = candidates.top();
        candidates.pop();
        Piece& left = piece(best.left);
        if (left.num_bytes == 0 || left.next < 0) continue;
        Piece& right = piece(left.next);
        const Merge* merge = merge_of(left.id, right.id);
        if (merge == nullptr || merge->rank != best.rank) continue;  // a neighbour has changed meanwhile
        left.id = best.id;
        left.num_bytes += right.num_bytes;
        left.next = right.next;
        right.num_bytes = 0;
        if (left.next >= 0) piece(left.next).previous = best.left;
        consider(left.previous);
        consider(best.left);
    }
    for (std::int32_t at = pieces.empty() ? -1 : 0; at >= 0; at = piece(at).next) tokens.push_back({piece(at).id, piece(at).num_bytes});
}

}  // namespace tercet

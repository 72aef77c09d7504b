#include "tokenization/tokenizer.hpp"

#include <algorithm>
#include <unordered_set>

#include "formats/failures.hpp"
#include "formats/json.hpp"
#include "tokenization/switches.hpp"

namespace tercet {
namespace {

const char* const source = "the tokenizer";

// A step that may be wrapped into a sequence of one; null where there is none.
JsonValue only_step(JsonValue step, std::string_view list) {
    if (step["type"].text() != "Sequence") return step;
    JsonValue found = step[""];
    step[list].for_each([&](JsonValue inner) { found = inner; });
    if (step[list].size() > 1) throw UnsupportedError("its " + std::string(list) + " are several steps");
    return found;
}

JsonValue checked_root(const Json& document) {
    const JsonValue root = document.root();
    if (!root.is(JsonValue::Kind::object)) throw FormatError("it is " + root.shown() + ", expected an object");
    if (const JsonValue step = only_step(root["normalizer"], "normalizers"); !step.is_null())
        throw UnsupportedError("it rewrites text by a step of the kind " + step["type"].shown());
    if (const JsonValue step = only_step(root["decoder"], "decoders"); step["type"].text() != "ByteLevel")
        throw UnsupportedError("it decodes by a step of the kind " + step["type"].shown());
    return root;
}

}  // namespace

Tokenizer::Tokenizer(std::string tokenizer_json) : Tokenizer(Json(std::move(tokenizer_json), source)) {}

Tokenizer::Tokenizer(const Json& document)
    : merges_(checked_root(document)["model"]), words_(document.root()["pre_tokenizer"]), num_tokens_(merges_.num_tokens()) {
    document.root()["added_tokens"].for_each([&](JsonValue entry) { read_added_token({entry, source, "added_tokens[]"}); });
    for (auto& [first, indices] : added_by_first_byte_)
        std::sort(indices.begin(), indices.end(),
                  [&](std::size_t a, std::size_t b) { return added_[a].content.size() > added_[b].content.size(); });
}

void Tokenizer::read_added_token(const Fields& entry) {
    const std::string content = entry.text("content");
    const auto id = static_cast<std::int32_t>(entry.integer("id", 0, INT32_MAX));
    if (content.empty() || find(content)) throw UnsupportedError("an added token is empty or there twice");
    // The library numbers those that the vocabulary lacks by itself, whatever the file says.
    const auto known = merges_.find(content);
    if (id != known.value_or(std::max(highest_added_ + 1, static_cast<std::int32_t>(merges_.num_tokens()))))
        throw UnsupportedError("the added token " + entry["content"].shown() + " has an id that does not follow the others");
    const bool is_special = is_set(entry.value(), "special");
    if (!is_special && (is_set(entry.value(), "single_word") || is_set(entry.value(), "lstrip") || is_set(entry.value(), "rstrip")))
        throw UnsupportedError("the added token " + entry["content"].shown() + " depends on what stands beside it");
    highest_added_ = std::max(highest_added_, id);
    num_tokens_ += known ? 0 : 1;
    finds_text_ = finds_text_ || !is_special;
    added_by_id_.emplace(id, added_.size());
    added_by_content_.emplace(content, id);
    added_by_first_byte_[content.front()].push_back(added_.size());
    added_.push_back({id, content, is_special, is_set(entry.value(), "normalized")});
}

std::optional<std::int32_t> Tokenizer::find(std::string_view content) const {
    const auto found = added_by_content_.find(std::string(content));
    return found == added_by_content_.end() ? std::nullopt : std::optional(found->second);
}

bool Tokenizer::is_control(std::int32_t token) const noexcept {
    const auto found = added_by_id_.find(token);
    return found != added_by_id_.end() && added_[found->second].is_special;
}

std::string_view Tokenizer::bytes(std::int32_t token) const {
    if (const auto found = added_by_id_.find(token); found != added_by_id_.end()) return added_[found->second].content;
    const std::string* const bytes = merges_.bytes(token);
    return bytes == nullptr ? std::string_view() : *bytes;
}

std::vector<std::int32_t> Tokenizer::encode(std::string_view text) const {
    const Characters characters(text);
    std::vector<std::int32_t> ids;
    append_plain(characters, text, {0, characters.characters.size()}, ids);
    return ids;
}

const Tokenizer::Added* Tokenizer::added_at(std::string_view rest, bool normalized) const {
    const auto found = added_by_first_byte_.find(rest.front());
    if (found == added_by_first_byte_.end()) return nullptr;
    for (const std::size_t index : found->second)
        if (added_[index].is_normalized == normalized && rest.starts_with(added_[index].content)) return &added_[index];
    return nullptr;
}

// Twice: first at the tokens that are looked for in the text as it is, then at the others.
std::vector<Tokenizer::Stretch> Tokenizer::cut_at_added(const Characters& text, std::string_view bytes, Span whole) const {
    std::vector<Stretch> stretches{{whole, -1}};
    if (!finds_text_) return stretches;
    for (const bool normalized : {false, true}) {
        std::vector<Stretch> cut;
        for (const Stretch& stretch : stretches) {
            const auto [begin, end] = stretch.span;
            std::size_t kept = begin;
            for (std::size_t at = begin; at < end && stretch.id < 0;) {
                const std::size_t place = text.places[at];
                const Added* const token = added_at(bytes.substr(place, text.places[end] - place), normalized);
                if (token == nullptr) {
                    ++at;
                    continue;
                }
                const std::size_t behind = place + token->content.size();
                const auto next = static_cast<std::size_t>(std::lower_bound(text.places.begin(), text.places.end(), behind) - text.places.begin());
                if (!token->is_special) {  // the text of a control token stays text
                    if (at > kept) cut.push_back({{kept, at}, -1});
                    cut.push_back({{at, next}, token->id});
                    kept = next;
                }
                at = next;
            }
            if (kept < end) cut.push_back({{kept, end}, stretch.id});
        }
        stretches = std::move(cut);
    }
    return stretches;
}

void Tokenizer::append_plain(const Characters& text, std::string_view bytes, Span whole, std::vector<std::int32_t>& ids) const {
    const std::size_t num_before = ids.size();
    std::vector<std::size_t> cuts{whole.begin};
    std::vector<ByteMerges::Token> tokens;
    for (const Stretch& stretch : cut_at_added(text, bytes, whole)) {
        if (stretch.id >= 0) {
            ids.push_back(stretch.id);
            continue;
        }
        for (const Span word : words_.words(text.characters, stretch.span)) {
            tokens.clear();
            std::size_t place = text.places[word.begin];
            merges_.append(bytes.substr(place, text.places[word.end] - place), tokens);
            for (const ByteMerges::Token& token : tokens) {
                ids.push_back(token.id);
                // Some vocabularies have control tokens as words of their own: such a word is cut in two. One that is a
                // single character is left, since no text can say more.
                if (is_control(token.id)) {
                    const auto first = std::upper_bound(text.places.begin(), text.places.end(), place) - 1;
                    const auto behind = std::lower_bound(first, text.places.end(), place + token.num_bytes);
                    if (behind - first > 1) cuts.push_back(static_cast<std::size_t>(first - text.places.begin()) + 1);
                }
                place += token.num_bytes;
            }
        }
    }
    if (cuts.size() == 1) return;
    ids.resize(num_before);
    cuts.push_back(whole.end);
    for (std::size_t i = 1; i < cuts.size(); ++i) append_plain(text, bytes, {cuts[i - 1], cuts[i]}, ids);
}

}  // namespace tercet

// tercet.h, models and text.
#include <thread>

#include "capi/handles.hpp"
#include "formats/failures.hpp"

namespace tercet::capi {
namespace {

constexpr const char* tokenizer_blob = "tokenizer.json";
constexpr std::int32_t most_default_threads = 4;

tercet_options default_options() noexcept { return {sizeof(tercet_options), 0, TERCET_VERIFY_BY_SIZE, nullptr, 0}; }

int threads_of(const tercet_options& options) {
    if (options.threads != 0) return options.threads;
    return std::clamp(static_cast<int>(std::thread::hardware_concurrency()), 1, most_default_threads);
}

Verification verification_of(const tercet_options& options) {
    switch (options.verify) {
        case TERCET_VERIFY_BY_SIZE: return Verification::by_size;
        case TERCET_VERIFY_ALWAYS: return Verification::always;
        case TERCET_VERIFY_NEVER: return Verification::never;
        default: throw Refusal(TERCET_INVALID_ARGUMENT, "verify is " + std::to_string(options.verify) + ", expected a tercet_verify");
    }
}

}  // namespace

OpenModel::OpenModel(const std::string& path, const tercet_options& options)
    : native_(path, verification_of(options), options.isa == nullptr ? "" : options.isa, threads_of(options),
              options.guard_mapping != 0) {
    const JsonValue chat_template = native_.file().chat_template();
    has_chat_template_ = !chat_template.is_null();
    if (has_chat_template_) chat_template_ = chat_template.text();
    read_stop_texts();
}

void OpenModel::make_tokenizer() const noexcept {
    try {
        const NativeFile& file = native_.file();
        const BlobEntry* const blob = file.blob(tokenizer_blob);
        if (blob == nullptr) throw UnsupportedError("the file holds none");
        const auto bytes = file.view(blob->piece);
        auto tokenizer = std::make_unique<const Tokenizer>(std::string(bytes.begin(), bytes.end()));
        if (tokenizer->num_tokens() > config().decoder.vocab_size)
            throw FormatError("it has " + std::to_string(tokenizer->num_tokens()) + " tokens, expected at most the " +
                              std::to_string(vocab_size()) + " of the model");
        tokenizer_ = std::move(tokenizer);
    } catch (...) {
        tokenizer_status_ = report_current_exception();
        tokenizer_problem_ = "text needs the model's tokenizer, which cannot be used: ";
        tokenizer_problem_ += tercet_last_error();
        tokenizer_problem_ += ". Give token ids instead, or convert the model with a byte-level BPE tokenizer.";
    }
}

const Tokenizer* OpenModel::tokenizer_if_known() const noexcept {
    std::call_once(once_, [this] { make_tokenizer(); });
    return tokenizer_.get();
}

const Tokenizer& OpenModel::tokenizer() const {
    const Tokenizer* const known = tokenizer_if_known();
    if (known == nullptr) throw Refusal(tokenizer_status_, native_.file().path() + ": " + tokenizer_problem_);
    return *known;
}

}  // namespace tercet::capi

using tercet::capi::guarded;
using tercet::capi::needed;
using tercet::capi::Refusal;

extern "C" {

void tercet_options_init(tercet_options* options, size_t size) {
    tercet::capi::initialize(*options, size, tercet::capi::default_options());
}

tercet_status tercet_open(const char* path, const tercet_options* options, tercet_model** model) {
    return guarded([&] {
        needed(model, "model") = nullptr;
        needed(path, "path");
        const tercet_options chosen = tercet::capi::completed(options, tercet::capi::default_options());
        *model = new tercet_model{std::make_shared<tercet::capi::OpenModel>(path, chosen)};
    });
}

void tercet_free(tercet_model* model) { delete model; }

int32_t tercet_vocab_size(const tercet_model* model) { return model->open->vocab_size(); }

int32_t tercet_max_context(const tercet_model* model) {
    return static_cast<int32_t>(model->open->config().decoder.max_context);
}

int32_t tercet_first_token(const tercet_model* model) { return model->open->config().first_token_id.value_or(-1); }

int32_t tercet_is_end(const tercet_model* model, int32_t token) {
    const auto& ends = model->open->config().eos_token_ids;
    return std::find(ends.begin(), ends.end(), token) != ends.end() ? 1 : 0;
}

const char* tercet_isa(const tercet_model* model) {
    return tercet::isa_name(model->open->native().decoder().kernels().isa);
}

const char* tercet_chat_template(const tercet_model* model) { return model->open->chat_template(); }

tercet_status tercet_tokenize(const tercet_model* model, const char* text, size_t text_bytes, int32_t* tokens,
                              size_t capacity, size_t* count) {
    return guarded([&] {
        needed(count, "count") = 0;
        const tercet::Tokenizer& tokenizer = needed(model, "model").open->tokenizer();
        const std::vector<std::int32_t> ids = tokenizer.encode(tercet::capi::checked_text(text, text_bytes));
        *count = ids.size();
        if (ids.size() > capacity)
            throw Refusal(TERCET_TOO_SMALL, "the text has " + std::to_string(ids.size()) + " tokens, and there is room for " + std::to_string(capacity));
        if (!ids.empty()) std::copy(ids.begin(), ids.end(), &needed(tokens, "tokens"));
    });
}

tercet_status tercet_detokenize(const tercet_model* model, const int32_t* tokens, size_t count, int32_t show_control,
                                char* text, size_t capacity, size_t* text_bytes) {
    return guarded([&] {
        needed(text_bytes, "text_bytes") = 0;
        const tercet::Tokenizer& tokenizer = needed(model, "model").open->tokenizer();
        tercet::capi::check_tokens(tokens, count, model->open->vocab_size());
        tercet::Utf8Stream stream;
        std::string made;
        for (std::size_t i = 0; i < count; ++i)
            if (show_control != 0 || !tokenizer.is_control(tokens[i])) made += stream.push(tokenizer.bytes(tokens[i]));
        made += stream.finish();
        *text_bytes = made.size();
        if (made.size() > capacity)
            throw Refusal(TERCET_TOO_SMALL, "the text has " + std::to_string(made.size()) + " bytes, and there is room for " + std::to_string(capacity));
        if (!made.empty()) std::copy(made.begin(), made.end(), &needed(text, "text"));
    });
}

tercet_status tercet_control_token(const tercet_model* model, const char* text, int32_t* token) {
    return guarded([&] {
        needed(token, "token") = -1;
        const tercet::Tokenizer& tokenizer = needed(model, "model").open->tokenizer();
        const auto found = tokenizer.find(tercet::capi::checked_text(&needed(text, "text"), TERCET_WHOLE));
        if (found && tokenizer.is_control(*found)) *token = *found;
    });
}

}  // extern "C"

// What is behind the handles of tercet.h, and the border that no exception crosses.
#pragma once

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "models/native_model.hpp"
#include "tercet.h"
#include "tercet/kv_cache.hpp"
#include "tercet/sampling.hpp"
#include "tokenization/tokenizer.hpp"

namespace tercet::capi {

// An error whose status is known where it is found.
class Refusal : public std::runtime_error {
  public:
    Refusal(tercet_status code, const std::string& message) : std::runtime_error(message), status(code) {}
    const tercet_status status;
};

tercet_status report_current_exception() noexcept;  // keeps its message for tercet_last_error

template <class Call>
tercet_status guarded(Call call) noexcept {
    try {
        call();
        return TERCET_OK;
    } catch (...) {
        return report_current_exception();
    }
}

template <class T>
T& needed(T* pointer, const char* name) {
    if (pointer == nullptr) throw Refusal(TERCET_INVALID_ARGUMENT, std::string(name) + " is NULL, expected a pointer");
    return *pointer;
}

// A structure that the caller may know in an earlier form: what that has, and defaults for the rest.
template <class Options>
Options completed(const Options* given, Options defaults) {
    if (given == nullptr) return defaults;
    if (given->size < sizeof given->size || given->size > sizeof defaults)
        throw Refusal(TERCET_INVALID_ARGUMENT, "a structure of " + std::to_string(given->size) + " bytes was given, and this release knows " +
                                                   std::to_string(sizeof defaults) + "; set it up by its init function");
    std::memcpy(&defaults, given, given->size);
    return defaults;
}

template <class Options>
void initialize(Options& options, std::size_t size, Options defaults) {
    std::memset(&options, 0, size);
    defaults.size = size;
    std::memcpy(&options, &defaults, std::min(size, sizeof defaults));
}

// The characters of a text, which must be UTF-8.
std::string_view checked_text(const char* text, std::size_t num_bytes);

void check_tokens(const std::int32_t* tokens, std::size_t count, std::int32_t vocab_size);

// A model, its tokenizer (made when it is first wanted) and what its file says of sampling.
class OpenModel {
  public:
    explicit OpenModel(const std::string& path, const tercet_options& options);

    const NativeModel& native() const noexcept { return native_; }
    const ModelConfig& config() const noexcept { return native_.config(); }
    std::int32_t vocab_size() const noexcept { return static_cast<std::int32_t>(config().decoder.vocab_size); }
    const char* chat_template() const noexcept { return has_chat_template_ ? chat_template_.c_str() : nullptr; }
    const Tokenizer& tokenizer() const;                 // throws Refusal
    const Tokenizer* tokenizer_if_known() const noexcept;
    tercet_sampling sampling() const;                   // throws FormatError, UnsupportedError

  private:
    void make_tokenizer() const noexcept;
    void read_stop_texts();

    NativeModel native_;
    bool has_chat_template_ = false;
    std::string chat_template_;
    std::vector<std::string> stop_texts_;
    std::vector<const char*> stop_pointers_;
    mutable std::once_flag once_;
    mutable std::unique_ptr<const Tokenizer> tokenizer_;
    mutable tercet_status tokenizer_status_ = TERCET_OK;
    mutable std::string tokenizer_problem_;
};

tercet_sampling default_sampling() noexcept;
void check_sampling(const tercet_sampling& sampling);  // throws Refusal

}  // namespace tercet::capi

struct tercet_model {
    std::shared_ptr<tercet::capi::OpenModel> open;
};

struct tercet_session {
    tercet_session(std::shared_ptr<tercet::capi::OpenModel> open, std::size_t max_context, tercet::KvType type);

    std::size_t room() const noexcept { return max_context - tokens.size(); }
    void append(const std::int32_t* ids, std::size_t count);  // throws Refusal
    void truncate(std::size_t length) noexcept;
    const std::vector<float>& next_logits();

    const std::shared_ptr<tercet::capi::OpenModel> open;
    const std::size_t max_context;
    std::vector<std::int32_t> tokens;
    tercet::Sampler sampler;

    tercet_finish finish = TERCET_FINISH_NONE;
    std::size_t answer_length = 0;
    std::uint64_t seed = 0;

  private:
    tercet::KvCache cache_;
    std::vector<std::int32_t> block_table_;
    std::size_t num_cached_ = 0;  // tokens whose keys and values are in the cache
    std::vector<float> logits_;   // behind the last token, where has_logits_
    bool has_logits_ = false;
};

// tercet.h, sessions: one sequence over a cache of its own, on the decoder that all sessions of a model share.
#include "capi/handles.hpp"

using tercet::capi::guarded;
using tercet::capi::needed;
using tercet::capi::Refusal;

namespace {

constexpr std::size_t block_tokens = 16, step_tokens = 256;
constexpr std::size_t most_default_context = 4096;

tercet_session_options default_options() noexcept { return {sizeof(tercet_session_options), 0, TERCET_KV_F32}; }

std::size_t num_blocks(std::size_t max_context) noexcept { return (max_context + block_tokens - 1) / block_tokens; }

}  // namespace

tercet_session::tercet_session(std::shared_ptr<tercet::capi::OpenModel> model, std::size_t context, tercet::KvType type)
    : open(std::move(model)),
      max_context(context),
      sampler(open->native().decoder().kernels().head),
      cache_(open->native().decoder().cache_shape(num_blocks(context), block_tokens), type) {
    for (std::size_t block = 0; block < num_blocks(context); ++block) block_table_.push_back(static_cast<std::int32_t>(block));
}

void tercet_session::append(const std::int32_t* ids, std::size_t count) {
    tercet::capi::check_tokens(ids, count, open->vocab_size());
    if (count > room())
        throw Refusal(TERCET_CONTEXT, std::to_string(tokens.size()) + " tokens and " + std::to_string(count) +
                                          " more do not fit into the context of " + std::to_string(max_context));
    tokens.insert(tokens.end(), ids, ids + count);
    has_logits_ = has_logits_ && count == 0;
}

void tercet_session::truncate(std::size_t length) noexcept {
    has_logits_ = has_logits_ && length == tokens.size();
    tokens.resize(length);
    num_cached_ = std::min(num_cached_, length);
}

const std::vector<float>& tercet_session::next_logits() {
    if (tokens.empty()) throw Refusal(TERCET_INVALID_ARGUMENT, "the session holds no tokens, so nothing can follow them");
    if (has_logits_) return logits_;
    num_cached_ = std::min(num_cached_, tokens.size() - 1);  // logits come from computing the last token, again if need be
    logits_.resize(static_cast<std::size_t>(open->vocab_size()));
    while (num_cached_ < tokens.size()) {
        const std::size_t count = std::min(step_tokens, tokens.size() - num_cached_);
        const bool is_last = num_cached_ + count == tokens.size();
        const std::int32_t starts[] = {0, static_cast<std::int32_t>(count)};
        const std::int32_t cached = static_cast<std::int32_t>(num_cached_), last = static_cast<std::int32_t>(count) - 1;
        const tercet::Batch batch{
            .token_ids = std::span(tokens).subspan(num_cached_, count),
            .sequence_starts = starts,
            .context_lengths = {&cached, 1},
            .block_tables = {block_table_.data(), 1, block_table_.size(), block_table_.size()},
            .logit_rows = {&last, is_last ? std::size_t{1} : std::size_t{0}}};
        open->native().decoder().forward(cache_, batch, logits_.data());
        if (open->native().is_damaged())
            throw Refusal(TERCET_DAMAGED, open->native().file().path() +
                                              " has become shorter while it is in use; put it back and open it again");
        num_cached_ += count;
    }
    has_logits_ = true;
    return logits_;
}

extern "C" {

void tercet_session_options_init(tercet_session_options* options, size_t size) {
    tercet::capi::initialize(*options, size, default_options());
}

tercet_status tercet_session_create(tercet_model* model, const tercet_session_options* options, tercet_session** session) {
    return guarded([&] {
        needed(session, "session") = nullptr;
        const auto& open = needed(model, "model").open;
        const tercet_session_options chosen = tercet::capi::completed(options, default_options());
        const std::size_t most = open->config().decoder.max_context;
        if (open->config().makes_embeddings)
            throw Refusal(TERCET_UNSUPPORTED, open->native().file().path() + " makes embeddings and predicts no tokens");
        if (chosen.max_context < 0 || static_cast<std::size_t>(chosen.max_context) > most)
            throw Refusal(TERCET_INVALID_ARGUMENT, "max_context is " + std::to_string(chosen.max_context) + ", expected at most " + std::to_string(most));
        if (chosen.kv_type < TERCET_KV_F32 || chosen.kv_type > TERCET_KV_INT8)
            throw Refusal(TERCET_INVALID_ARGUMENT, "kv_type is " + std::to_string(chosen.kv_type) + ", expected a tercet_kv_type");
        constexpr tercet::KvType types[] = {tercet::KvType::f32, tercet::KvType::f16, tercet::KvType::int8};
        const std::size_t context = chosen.max_context != 0 ? static_cast<std::size_t>(chosen.max_context) : std::min(most, most_default_context);
        *session = new tercet_session(open, context, types[chosen.kv_type]);
    });
}

void tercet_session_free(tercet_session* session) { delete session; }

size_t tercet_session_length(const tercet_session* session) { return session->tokens.size(); }

tercet_status tercet_session_truncate(tercet_session* session, size_t length) {
    return guarded([&] {
        if (length > needed(session, "session").tokens.size())
            throw Refusal(TERCET_INVALID_ARGUMENT, "length is " + std::to_string(length) + ", and the session holds " +
                                                       std::to_string(session->tokens.size()) + " tokens");
        session->truncate(length);
    });
}

tercet_status tercet_session_append(tercet_session* session, const int32_t* tokens, size_t count) {
    return guarded([&] { needed(session, "session").append(tokens, count); });
}

tercet_status tercet_session_logits(tercet_session* session, const float** logits) {
    return guarded([&] {
        needed(logits, "logits") = nullptr;
        *logits = needed(session, "session").next_logits().data();
    });
}

int32_t tercet_session_finish(const tercet_session* session) { return session->finish; }
size_t tercet_session_answer_length(const tercet_session* session) { return session->answer_length; }
uint64_t tercet_session_seed(const tercet_session* session) { return session->seed; }

}  // extern "C"

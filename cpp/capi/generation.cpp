// tercet.h, answers: draw a token, show its text, go on.
#include <limits>
#include <random>

#include "capi/answer_text.hpp"
#include "capi/handles.hpp"

namespace tercet::capi {
namespace {

std::uint64_t fresh_seed() {
    std::random_device device;
    return static_cast<std::uint64_t>(device()) << 32 | device();
}

SamplingRule rule_of(const tercet_sampling& sampling, std::uint64_t seed) noexcept {
    return {.temperature = sampling.temperature,
            .top_k = static_cast<std::uint32_t>(sampling.top_k),
            .top_p = sampling.top_p,
            .min_p = sampling.min_p,
            .repetition_penalty = static_cast<float>(sampling.repetition_penalty),
            .presence_penalty = static_cast<float>(sampling.presence_penalty),
            .frequency_penalty = static_cast<float>(sampling.frequency_penalty),
            .seed = seed};
}

// One call of tercet_generate.
class Answer {
  public:
    Answer(tercet_session& session, const tercet_sampling& sampling, tercet_on_token callback, void* user)
        : session_(session),
          sampling_(sampling),
          rule_(rule_of(sampling, session.seed)),
          callback_(callback),
          user_(user),
          num_prompt_(session.tokens.size()),
          text_(session.open->tokenizer_if_known(), {sampling.stop, sampling.stop + sampling.num_stop}) {}

    tercet_finish run() {
        const std::size_t most = std::min(session_.room(), static_cast<std::size_t>(sampling_.max_tokens));
        while (session_.answer_length < most) {
            const std::int32_t token = draw();
            session_.append(&token, 1);
            if (sampling_.ignore_end == 0 && is_end(token)) return finish(TERCET_FINISH_STOP);
            ++session_.answer_length;
            const bool may_stop = session_.answer_length > static_cast<std::size_t>(sampling_.min_tokens);
            if (!show(token, text_.push(token, may_stop))) return TERCET_FINISH_CALLBACK;
            if (text_.has_stopped()) return TERCET_FINISH_STOP;
        }
        return finish(TERCET_FINISH_LENGTH);
    }

  private:
    bool is_end(std::int32_t token) const noexcept {
        const auto& ends = session_.open->config().eos_token_ids;
        return std::find(ends.begin(), ends.end(), token) != ends.end();
    }

    std::int32_t draw() {
        const std::vector<float>* logits = &session_.next_logits();
        if (session_.answer_length < static_cast<std::size_t>(sampling_.min_tokens) && sampling_.ignore_end == 0) {
            adjusted_ = *logits;
            for (const std::int32_t end : session_.open->config().eos_token_ids)
                adjusted_[static_cast<std::size_t>(end)] = -std::numeric_limits<float>::infinity();
            logits = &adjusted_;
        }
        const std::span<const std::int32_t> tokens(session_.tokens);
        try {
            return session_.sampler.sample(*logits, rule_, tokens.first(num_prompt_), tokens.subspan(num_prompt_), session_.answer_length);
        } catch (const std::invalid_argument& error) {  // the rule and the tokens are good
            throw Refusal(TERCET_GENERATION, std::string("the answer failed: ") + error.what());
        }
    }

    bool show(std::int32_t token, const std::string& text) const {
        return callback_ == nullptr || callback_(user_, token, text.data(), text.size()) == 0;
    }

    tercet_finish finish(tercet_finish reason) {
        if (const std::string rest = text_.finish(); !rest.empty()) show(-1, rest);
        return text_.has_stopped() ? TERCET_FINISH_STOP : reason;  // the very last bytes may complete a stop text
    }

    tercet_session& session_;
    const tercet_sampling& sampling_;
    const SamplingRule rule_;
    const tercet_on_token callback_;
    void* const user_;
    const std::size_t num_prompt_;
    AnswerText text_;
    std::vector<float> adjusted_;
};

void generate(tercet_session& session, const std::vector<std::int32_t>& prompt, const tercet_sampling* given,
              tercet_on_token callback, void* user) {
    session.finish = TERCET_FINISH_NONE;
    session.answer_length = 0;
    const tercet_sampling sampling = given != nullptr ? completed(given, default_sampling()) : session.open->sampling();
    check_sampling(sampling);
    if (sampling.num_stop != 0) session.open->tokenizer();
    if (prompt.size() >= session.room())
        throw Refusal(TERCET_CONTEXT, "the text has " + std::to_string(session.tokens.size() + prompt.size()) +
                                          " tokens, and the context of " + std::to_string(session.max_context) +
                                          " tokens must hold it and at least one more; shorten the prompt");
    session.append(prompt.data(), prompt.size());
    session.seed = sampling.has_seed != 0 ? sampling.seed : fresh_seed();
    session.finish = Answer(session, sampling, callback, user).run();
}

}  // namespace
}  // namespace tercet::capi

using tercet::capi::guarded;
using tercet::capi::needed;

extern "C" {

tercet_status tercet_generate(tercet_session* session, const int32_t* tokens, size_t count, const tercet_sampling* sampling,
                              tercet_on_token callback, void* user) {
    return guarded([&] {
        tercet_session& own = needed(session, "session");
        tercet::capi::check_tokens(tokens, count, own.open->vocab_size());
        tercet::capi::generate(own, {tokens, tokens + count}, sampling, callback, user);
    });
}

tercet_status tercet_generate_text(tercet_session* session, const char* text, size_t text_bytes,
                                   const tercet_sampling* sampling, tercet_on_token callback, void* user) {
    return guarded([&] {
        tercet_session& own = needed(session, "session");
        const auto first = own.open->config().first_token_id;
        std::vector<std::int32_t> prompt = own.open->tokenizer().encode(tercet::capi::checked_text(text, text_bytes));
        if (own.tokens.empty() && first) prompt.insert(prompt.begin(), *first);
        tercet::capi::generate(own, prompt, sampling, callback, user);
    });
}

}  // extern "C"

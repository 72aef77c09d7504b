// tercet.h, sampling: the fields and bounds of src/tercet/sampling/params.py.
#include <cmath>

#include "capi/handles.hpp"
#include "formats/failures.hpp"

namespace tercet::capi {

tercet_sampling default_sampling() noexcept {
    return {.size = sizeof(tercet_sampling),
            .max_tokens = 256,
            .min_tokens = 0,
            .temperature = 0.7,
            .top_p = 0.9,
            .min_p = 0.0,
            .top_k = 0,
            .ignore_end = 0,
            .repetition_penalty = 1.0,
            .presence_penalty = 0.0,
            .frequency_penalty = 0.0,
            .has_seed = 0,
            .seed = 0,
            .stop = nullptr,
            .num_stop = 0};
}

void check_sampling(const tercet_sampling& sampling) {
    const auto check = [](bool is_good, const char* name, const char* expected, double found) {
        if (!is_good)
            throw Refusal(TERCET_INVALID_ARGUMENT, std::string(name) + " is " + std::to_string(found) + ", expected " + expected);
    };
    const auto within = [&](const char* name, double value, double lowest, double highest, const char* expected) {
        check(value >= lowest && value <= highest, name, expected, value);
    };
    within("max_tokens", sampling.max_tokens, 1, INT32_MAX, "at least 1");
    within("min_tokens", sampling.min_tokens, 0, sampling.max_tokens, "0 to max_tokens");
    within("temperature", sampling.temperature, 0, 1e308, "a finite number of at least 0");
    check(sampling.top_p > 0 && sampling.top_p <= 1, "top_p", "above 0 and at most 1", sampling.top_p);
    within("min_p", sampling.min_p, 0, 1, "0 to 1");
    within("top_k", sampling.top_k, 0, INT32_MAX, "at least 0");
    within("repetition_penalty", sampling.repetition_penalty, 0.01, 100, "0.01 to 100");
    within("presence_penalty", sampling.presence_penalty, -2, 2, "-2 to 2");
    within("frequency_penalty", sampling.frequency_penalty, -2, 2, "-2 to 2");
    for (std::size_t i = 0; i < sampling.num_stop; ++i) {
        needed(sampling.stop, "stop");
        if (checked_text(&needed(sampling.stop[i], "a stop text"), TERCET_WHOLE).empty())
            throw Refusal(TERCET_INVALID_ARGUMENT, "a stop text is empty, expected at least one character");
    }
}

void OpenModel::read_stop_texts() {
    const JsonValue stop = native_.file().generation()["stop"];
    const auto add = [&](JsonValue text) {
        if (text.is(JsonValue::Kind::string)) stop_texts_.emplace_back(text.text());
    };
    if (stop.is(JsonValue::Kind::array)) stop.for_each(add);
    else add(stop);
    for (const std::string& text : stop_texts_) stop_pointers_.push_back(text.c_str());
}

tercet_sampling OpenModel::sampling() const {
    tercet_sampling sampling = default_sampling();
    const Fields fields(native_.file().generation(), native_.file().path(), "generation");
    fields.only({"max_tokens", "temperature", "top_p", "top_k", "min_p", "repetition_penalty", "presence_penalty",
                 "frequency_penalty", "seed", "stop", "ignore_eos", "min_tokens", "logit_bias", "logprobs"});
    if (fields.contains("logit_bias") && fields["logit_bias"].size() != 0)
        throw UnsupportedError(native_.file().path() + ": its generation settings have logit_bias, which the C library has not");
    const auto count = [&](const char* key, std::int32_t& value) {
        if (fields.value().has(key)) value = static_cast<std::int32_t>(fields.integer(key, 0, INT32_MAX));
    };
    const auto number = [&](const char* key, double& value) {
        if (!fields.value().has(key)) return;
        const JsonValue found = fields[key];
        if (!found.is(JsonValue::Kind::integer) && !found.is(JsonValue::Kind::real)) fields.refuse(key, "a number");
        value = found.number();
    };
    count("max_tokens", sampling.max_tokens);
    count("min_tokens", sampling.min_tokens);
    count("top_k", sampling.top_k);
    number("temperature", sampling.temperature);
    number("top_p", sampling.top_p);
    number("min_p", sampling.min_p);
    number("repetition_penalty", sampling.repetition_penalty);
    number("presence_penalty", sampling.presence_penalty);
    number("frequency_penalty", sampling.frequency_penalty);
    if (fields.contains("seed")) {
        sampling.has_seed = 1;
        sampling.seed = fields.integer("seed");
    }
    sampling.ignore_end = fields["ignore_eos"].boolean() ? 1 : 0;
    sampling.stop = stop_pointers_.data();
    sampling.num_stop = stop_pointers_.size();
    try {
        check_sampling(sampling);
    } catch (const Refusal& error) {
        throw FormatError(native_.file().path() + ": its generation settings: " + error.what());
    }
    return sampling;
}

}  // namespace tercet::capi

extern "C" tercet_status tercet_sampling_init(const tercet_model* model, tercet_sampling* sampling, size_t size) {
    return tercet::capi::guarded([&] {
        tercet::capi::needed(sampling, "sampling");
        tercet::capi::initialize(*sampling, size, tercet::capi::default_sampling());
        if (model != nullptr) tercet::capi::initialize(*sampling, size, model->open->sampling());
    });
}

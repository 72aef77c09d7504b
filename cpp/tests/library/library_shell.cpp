// libtercet, line by line, for tests (tests/plugins/c_library.py): each line is a call, each answer one line, "+" and what it
// gave, or "-", the name of the status and what tercet_last_error() says. Texts are in hexadecimal.
//
//     open PATH                                        + vocab_size max_context first_token chat_template isa
//     tokenize TEXT                                    + ids
//     detokenize SHOW_CONTROL IDS                      + text
//     control TEXT                                     + id
//     session MAX_CONTEXT KV_TYPE                      +
//     truncate LENGTH | append IDS                     + length
//     logits                                           + the bits of each
//     parallel COUNT TEXT                              + ids of answers in as many threads, seeds 0, 1, ..., " | " between
//     generate NAME=NUMBER ... stop=TEXT ... prompt=TEXT token=ID ...
//                                                      + finish answer_length seed length ids of the answer | texts shown
//
// `open` replaces what is open. Built under the sanitizers, so that no file and no text makes the library do what it must not.
#include <cstdio>
#include <cstring>
#include <functional>
#include <iostream>
#include <map>
#include <sstream>
#include <stdexcept>
#include <string>
#include <thread>
#include <vector>

#include "tercet.h"

namespace {

using Words = std::vector<std::string>;

tercet_model* model = nullptr;
tercet_session* session = nullptr;

struct Failed {
    tercet_status status;
};

void check(tercet_status status) {
    if (status != TERCET_OK) throw Failed{status};
}

std::string from_hex(const std::string& digits) {
    std::string bytes;
    for (std::size_t i = 0; i + 1 < digits.size(); i += 2)
        bytes += static_cast<char>(std::stoi(digits.substr(i, 2), nullptr, 16));
    return bytes;
}

std::string to_hex(const std::string& bytes) {
    std::string digits;
    for (const char byte : bytes) {
        char two[3];
        std::snprintf(two, sizeof two, "%02x", static_cast<unsigned char>(byte));
        digits += two;
    }
    return digits;
}

std::vector<int32_t> numbers(const Words& words, std::size_t from) {
    std::vector<int32_t> made;
    for (std::size_t i = from; i < words.size(); ++i) made.push_back(std::stoi(words[i]));
    return made;
}

std::string joined(const std::vector<int32_t>& ids) {
    std::string text;
    for (const int32_t id : ids) text += std::to_string(id) + " ";
    return text;
}

std::string open(const Words& words) {
    tercet_session_free(session);
    tercet_free(model);
    session = nullptr;
    tercet_options options;
    tercet_options_init(&options, sizeof options);
    options.threads = 1;
    options.guard_mapping = 1;
    check(tercet_open(from_hex(words.at(1)).c_str(), &options, &model));
    const char* const chat_template = tercet_chat_template(model);
    return std::to_string(tercet_vocab_size(model)) + " " + std::to_string(tercet_max_context(model)) + " " +
           std::to_string(tercet_first_token(model)) + " " + (chat_template == nullptr ? "none" : to_hex(chat_template)) + " " +
           tercet_isa(model);
}

std::string tokenize(const Words& words) {
    const std::string text = words.size() > 1 ? from_hex(words[1]) : "";
    std::size_t count = 0;
    std::vector<int32_t> ids;  // of exactly the size that is needed: a write beyond it is found
    const tercet_status status = tercet_tokenize(model, text.data(), text.size(), nullptr, 0, &count);
    if (status != TERCET_TOO_SMALL) check(status);
    ids.resize(count);
    check(tercet_tokenize(model, text.data(), text.size(), ids.data(), ids.size(), &count));
    return joined(ids);
}

std::string detokenize(const Words& words) {
    const std::vector<int32_t> ids = numbers(words, 2);
    const int32_t show_control = std::stoi(words.at(1));
    std::size_t size = 0;
    const tercet_status status = tercet_detokenize(model, ids.data(), ids.size(), show_control, nullptr, 0, &size);
    if (status != TERCET_TOO_SMALL) check(status);
    std::vector<char> text(size);
    check(tercet_detokenize(model, ids.data(), ids.size(), show_control, text.data(), size, &size));
    return to_hex({text.begin(), text.end()});
}

std::string control(const Words& words) {
    int32_t token = 0;
    check(tercet_control_token(model, from_hex(words.at(1)).c_str(), &token));
    return std::to_string(token);
}

std::string begin_session(const Words& words) {
    tercet_session_free(session);
    tercet_session_options options;
    tercet_session_options_init(&options, sizeof options);
    options.max_context = std::stoi(words.at(1));
    options.kv_type = std::stoi(words.at(2));
    check(tercet_session_create(model, &options, &session));
    return "";
}

std::string truncate(const Words& words) {
    check(tercet_session_truncate(session, std::stoul(words.at(1))));
    return std::to_string(tercet_session_length(session));
}

std::string append(const Words& words) {
    const std::vector<int32_t> ids = numbers(words, 1);
    check(tercet_session_append(session, ids.data(), ids.size()));
    return std::to_string(tercet_session_length(session));
}

std::string logits(const Words&) {
    const float* values = nullptr;
    check(tercet_session_logits(session, &values));
    std::string text;
    for (int32_t i = 0; i < tercet_vocab_size(model); ++i) {
        uint32_t bits;
        std::memcpy(&bits, values + i, sizeof bits);
        text += std::to_string(bits) + " ";
    }
    return text;
}

struct Shown {
    std::vector<int32_t> ids;
    std::string text;
    std::size_t most = SIZE_MAX;
};

int show(void* user, int32_t token, const char* text, size_t text_bytes) {
    auto& shown = *static_cast<Shown*>(user);
    if (token >= 0) shown.ids.push_back(token);
    if (text_bytes != 0) shown.text += to_hex({text, text_bytes}) + " ";
    return shown.ids.size() >= shown.most ? 1 : 0;
}

std::string parallel(const Words& words) {
    std::vector<Shown> shown(std::stoul(words.at(1)));
    std::vector<tercet_status> statuses(shown.size());
    const std::string prompt = from_hex(words.at(2));
    const auto answer = [&](std::size_t i) {
        tercet_session* own = nullptr;
        tercet_sampling sampling;
        statuses[i] = tercet_session_create(model, nullptr, &own);
        if (statuses[i] == TERCET_OK) statuses[i] = tercet_sampling_init(model, &sampling, sizeof sampling);
        if (statuses[i] == TERCET_OK) {
            sampling.max_tokens = 8;
            sampling.has_seed = 1;
            sampling.seed = i;
            statuses[i] = tercet_generate_text(own, prompt.data(), prompt.size(), &sampling, show, &shown[i]);
        }
        tercet_session_free(own);
    };
    std::vector<std::thread> threads;
    for (std::size_t i = 0; i < shown.size(); ++i) threads.emplace_back(answer, i);
    for (std::thread& thread : threads) thread.join();
    std::string text;
    for (const tercet_status status : statuses) check(status);
    for (const Shown& one : shown) text += joined(one.ids) + "| ";
    return text;
}

std::string generate(const Words& words) {
    tercet_sampling sampling;
    check(tercet_sampling_init(model, &sampling, sizeof sampling));
    const std::map<std::string, double*> reals{
        {"temperature", &sampling.temperature}, {"top_p", &sampling.top_p}, {"min_p", &sampling.min_p},
        {"repetition_penalty", &sampling.repetition_penalty}, {"presence_penalty", &sampling.presence_penalty},
        {"frequency_penalty", &sampling.frequency_penalty}};
    const std::map<std::string, int32_t*> counts{{"max_tokens", &sampling.max_tokens}, {"min_tokens", &sampling.min_tokens},
                                                 {"top_k", &sampling.top_k}, {"ignore_end", &sampling.ignore_end}};
    Words stop;
    std::vector<int32_t> ids;
    std::string prompt;
    Shown shown;
    for (std::size_t i = 1; i < words.size(); ++i) {
        const std::size_t equals = words[i].find('=');
        const std::string name = words[i].substr(0, equals), value = words[i].substr(equals + 1);
        if (reals.contains(name)) *reals.at(name) = std::stod(value);
        else if (counts.contains(name)) *counts.at(name) = std::stoi(value);
        else if (name == "seed") sampling.seed = std::stoull(value), sampling.has_seed = 1;
        else if (name == "stop") stop.push_back(from_hex(value));
        else if (name == "prompt") prompt = from_hex(value);
        else if (name == "token") ids.push_back(std::stoi(value));
        else if (name == "most") shown.most = std::stoul(value);
        else throw std::runtime_error("no setting is called " + name);
    }
    std::vector<const char*> pointers;
    for (const std::string& text : stop) pointers.push_back(text.c_str());
    if (!stop.empty()) sampling.stop = pointers.data(), sampling.num_stop = pointers.size();
    if (ids.empty()) check(tercet_generate_text(session, prompt.data(), prompt.size(), &sampling, show, &shown));
    else check(tercet_generate(session, ids.data(), ids.size(), &sampling, show, &shown));
    return std::to_string(tercet_session_finish(session)) + " " + std::to_string(tercet_session_answer_length(session)) + " " +
           std::to_string(tercet_session_seed(session)) + " " + std::to_string(tercet_session_length(session)) + " " +
           joined(shown.ids) + "| " + shown.text;
}

const std::map<std::string, std::function<std::string(const Words&)>> calls{
    {"open", open}, {"tokenize", tokenize}, {"detokenize", detokenize}, {"control", control},
    {"session", begin_session}, {"truncate", truncate}, {"append", append}, {"logits", logits},
    {"parallel", parallel}, {"generate", generate}};

}  // namespace

int main() {
    for (std::string line; std::getline(std::cin, line);) {
        std::istringstream stream(line);
        Words words;
        for (std::string word; stream >> word;) words.push_back(word);
        try {
            const std::string given = calls.at(words.at(0))(words);
            std::cout << "+ " << given << std::endl;
        } catch (const Failed& failed) {
            std::cout << "- " << tercet_status_name(failed.status) << " " << tercet_last_error() << std::endl;
        }
    }
    tercet_session_free(session);
    tercet_free(model);
}

// A conversation with libtercet from C++: the tokens of the turns are put together by hand, so that what a person types
// can never become a control token.
//
//     talk MODEL.tercet < questions.txt        each line is a question
#include <iostream>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

#include "tercet.h"

namespace {

void check(tercet_status status) {
    if (status != TERCET_OK) throw std::runtime_error(std::string(tercet_status_name(status)) + ": " + tercet_last_error());
}

std::vector<int32_t> tokens_of(const tercet_model* model, const std::string& text) {
    size_t count = 0;
    std::vector<int32_t> tokens(text.size());  // a token is at least a byte
    check(tercet_tokenize(model, text.data(), text.size(), tokens.data(), tokens.size(), &count));
    tokens.resize(count);
    return tokens;
}

int32_t control(const tercet_model* model, const char* name) {
    int32_t token = -1;
    check(tercet_control_token(model, name, &token));
    if (token < 0) throw std::runtime_error(std::string("the model has no ") + name);
    return token;
}

int show(void*, int32_t, const char* text, size_t text_bytes) {
    return std::cout.write(text, static_cast<std::streamsize>(text_bytes)).flush() ? 0 : 1;
}

void talk(const char* path) {
    tercet_model* opened = nullptr;
    check(tercet_open(path, nullptr, &opened));
    const std::unique_ptr<tercet_model, decltype(&tercet_free)> model(opened, tercet_free);
    tercet_session* begun = nullptr;
    check(tercet_session_create(opened, nullptr, &begun));
    const std::unique_ptr<tercet_session, decltype(&tercet_session_free)> session(begun, tercet_session_free);

    tercet_sampling sampling;
    check(tercet_sampling_init(opened, &sampling, sizeof sampling));
    sampling.temperature = 0;
    sampling.max_tokens = 40;
    // The shipped model's template; tercet_chat_template() says what another one wants.
    std::vector<int32_t> turn{tercet_first_token(opened)};
    for (std::string question; std::getline(std::cin, question);) {
        turn.push_back(control(opened, "<|user|>"));
        const std::vector<int32_t> words = tokens_of(opened, question);
        turn.insert(turn.end(), words.begin(), words.end());
        turn.push_back(control(opened, "<|end_of_turn|>"));
        turn.push_back(control(opened, "<|assistant|>"));
        check(tercet_generate(begun, turn.data(), turn.size(), &sampling, show, nullptr));
        std::cout << '\n';
        turn.clear();  // the session remembers
        if (tercet_session_finish(begun) != TERCET_FINISH_STOP) turn.push_back(control(opened, "<|end_of_turn|>"));
    }
}

}  // namespace

int main(int argc, char** argv) {
    try {
        if (argc != 2) throw std::runtime_error("usage: talk MODEL.tercet < questions.txt");
        talk(argv[1]);
    } catch (const std::exception& error) {
        std::cerr << "talk: " << error.what() << '\n';
        return 1;
    }
}

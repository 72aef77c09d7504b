// Opens files whose paths come one a line, does with each all that can be done, and prints what came of it:
//
//     TERCET_OK 17          the number of tokens of a text, or the name of the status why there is none
//     TERCET_CHECKSUM ...   and what is wrong
//
// Built under the sanitizers, it says that no file, however damaged, makes the library read out of bounds.
#include <cstdio>
#include <iostream>
#include <string>
#include <vector>

#include "tercet.h"

namespace {

constexpr const char* text = "Once upon a time, they'd 123 caf\xC3\xA9s\r\n\n \xF0\x9F\x99\x82!";

int keep_text(void* user, int32_t, const char* piece, size_t num_bytes) {
    static_cast<std::string*>(user)->append(piece, num_bytes);
    return 0;
}

void use(tercet_model* model) {
    std::vector<int32_t> tokens(256);
    size_t count = 0;
    const tercet_status encoded = tercet_tokenize(model, text, TERCET_WHOLE, tokens.data(), tokens.size(), &count);
    std::printf("TERCET_OK %s\n", encoded == TERCET_OK ? std::to_string(count).c_str() : tercet_status_name(encoded));
    tercet_session* session = nullptr;
    tercet_session_options options;
    tercet_session_options_init(&options, sizeof options);
    options.max_context = tercet_max_context(model) < 64 ? 0 : 64;
    if (tercet_session_create(model, &options, &session) != TERCET_OK) return;
    tercet_sampling sampling;
    if (tercet_sampling_init(model, &sampling, sizeof sampling) == TERCET_OK) {
        sampling.max_tokens = 4;
        sampling.min_tokens = 0;
        std::string answer;
        const int32_t token = 0;
        (void)tercet_generate(session, &token, 1, &sampling, keep_text, &answer);
        (void)tercet_generate_text(session, text, TERCET_WHOLE, &sampling, keep_text, &answer);
    }
    tercet_session_free(session);
}

}  // namespace

int main() {
    tercet_options options;
    tercet_options_init(&options, sizeof options);
    options.threads = 1;
    for (std::string path; std::getline(std::cin, path);) {
        tercet_model* model = nullptr;
        const tercet_status status = tercet_open(path.c_str(), &options, &model);
        if (status == TERCET_OK) use(model);
        else std::printf("%s %s\n", tercet_status_name(status), tercet_last_error());
        tercet_free(model);
    }
}

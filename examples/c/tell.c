/* Tells a story with libtercet, token by token:  tell MODEL.tercet [PROMPT [TEMPERATURE [SEED]]]
 *
 *     cc tell.c $(pkg-config --cflags --libs tercet) -o tell
 */
#include <stdio.h>
#include <stdlib.h>

#include "tercet.h"

static int show(void *user, int32_t token, const char *text, size_t text_bytes)
{
    (void)token;
    fwrite(text, 1, text_bytes, (FILE *)user);
    return fflush((FILE *)user); /* not 0 ends the answer: nobody reads it any more */
}

static int failed(const char *what)
{
    fprintf(stderr, "tell: %s: %s\n", what, tercet_last_error());
    return EXIT_FAILURE;
}

int main(int argc, char **argv)
{
    tercet_model *model = NULL;
    tercet_session *session = NULL;
    tercet_sampling sampling;
    const char *prompt = argc > 2 ? argv[2] : "Once upon a time";
    int result = EXIT_SUCCESS;

    if (argc < 2) {
        fprintf(stderr, "usage: tell MODEL.tercet [PROMPT [TEMPERATURE [SEED]]]\n");
        return EXIT_FAILURE;
    }
    if (tercet_open(argv[1], NULL, &model) != TERCET_OK)
        return failed("open");
    if (tercet_sampling_init(model, &sampling, sizeof sampling) != TERCET_OK)
        result = failed("sampling");
    if (argc > 3)
        sampling.temperature = atof(argv[3]);
    if (argc > 4) {
        sampling.has_seed = 1;
        sampling.seed = strtoul(argv[4], NULL, 10);
    }
    sampling.max_tokens = 80;

    if (result == EXIT_SUCCESS && tercet_session_create(model, NULL, &session) != TERCET_OK)
        result = failed("session");
    if (result == EXIT_SUCCESS) {
        fputs(prompt, stdout);
        if (tercet_generate_text(session, prompt, TERCET_WHOLE, &sampling, show, stdout) != TERCET_OK)
            result = failed("generate");
        putchar('\n');
        fprintf(stderr, "%lu tokens\n", (unsigned long)tercet_session_answer_length(session));
    }
    tercet_session_free(session);
    tercet_free(model);
    return result;
}

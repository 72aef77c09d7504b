/*
 * libtercet: run ternary language models from C, and from whatever can call C.
 *
 *     tercet_model *model = NULL;
 *     tercet_session *session = NULL;
 *     if (tercet_open("model.tercet", NULL, &model) || tercet_session_create(model, NULL, &session) ||
 *         tercet_generate_text(session, "Once upon a time", TERCET_WHOLE, NULL, show, NULL))
 *         fprintf(stderr, "%s\n", tercet_last_error());
 *     tercet_session_free(session);
 *     tercet_free(model);
 *
 * Errors. A function that can fail returns a tercet_status, TERCET_OK being 0; tercet_last_error() says what was asked, what
 * was found and what to do. A function that failed has changed nothing that it does not name.
 *
 * Threads. A model may be used by any number of threads at once; a session by one thread at a time. Sessions of one model
 * take turns at computing, a step each, on the model's threads.
 *
 * Memory. Handles are freed by their own functions, in any order: a session keeps what it needs of its model. Texts that a
 * function returns belong to the library and say how long they last; buffers that it fills are the caller's.
 *
 * Text is UTF-8, given with its length in bytes, or TERCET_WHOLE for one that ends in a zero byte.
 *
 * The syntax is that of C89; the types of <stdint.h> are needed.
 */
#ifndef TERCET_H
#define TERCET_H

#include <stddef.h>
#include <stdint.h>

/* The version of this header. tercet_version() is that of the library that is running. */
#define TERCET_VERSION_MAJOR 0
#define TERCET_VERSION_MINOR 1
#define TERCET_VERSION_PATCH 0

#if defined(_WIN32) && !defined(TERCET_STATIC)
#if defined(TERCET_BUILDING)
#define TERCET_API __declspec(dllexport)
#else
#define TERCET_API __declspec(dllimport)
#endif
#elif defined(__GNUC__)
#define TERCET_API __attribute__((visibility("default")))
#else
#define TERCET_API
#endif

#ifdef __cplusplus
extern "C" {
#endif

/* Errors ------------------------------------------------------------------------------------------------------------ */

/* What came of a call. Numbers never change their meaning; later versions may add others. */
typedef enum tercet_status {
    TERCET_OK = 0,
    TERCET_INVALID_ARGUMENT = 1, /* an argument is out of range, or not UTF-8 */
    TERCET_NOT_FOUND = 2,        /* there is no such file */
    TERCET_STORAGE = 3,          /* the operating system does not let us read it */
    TERCET_FORMAT = 4,           /* it is not a .tercet file, or damaged */
    TERCET_CHECKSUM = 5,         /* its content has changed since it was written */
    TERCET_UNSUPPORTED = 6,      /* this release has no code for its version, model or tokenizer */
    TERCET_CONTEXT = 7,          /* the tokens do not fit into the context */
    TERCET_NO_MEMORY = 8,        /* memory is exhausted */
    TERCET_ISA = 9,              /* the processor lacks the instruction set */
    TERCET_TOO_SMALL = 10,       /* the buffer is too small; the size that is needed has been told */
    TERCET_DAMAGED = 11,         /* the file has become shorter while it was in use */
    TERCET_GENERATION = 12,      /* the model computed no numbers to choose a token by */
    TERCET_INTERNAL = 13         /* a mistake of ours */
} tercet_status;

/* The version of the library, as in "0.1.0". Lasts for ever. */
TERCET_API const char *tercet_version(void);

/* What the last call of this thread that failed had to say, empty if none has. Lasts until the next one of this thread. */
TERCET_API const char *tercet_last_error(void);

/* The name of a status, as in "TERCET_FORMAT". Lasts for ever. */
TERCET_API const char *tercet_status_name(tercet_status status);

/* Models ------------------------------------------------------------------------------------------------------------ */

/* A model that is open: immutable, shared by threads and sessions. */
typedef struct tercet_model tercet_model;

/* Whether the content of a file is checked against its checksums when it is opened. */
typedef enum tercet_verify {
    TERCET_VERIFY_BY_SIZE = 0, /* files up to 4 GiB are */
    TERCET_VERIFY_ALWAYS = 1,
    TERCET_VERIFY_NEVER = 2 /* only its header is; for files that nobody else can have changed */
} tercet_verify;

/* How to open a model. tercet_options_init fills it in; then change what you like. */
typedef struct tercet_options {
    size_t size;          /* of this structure as the caller knows it */
    int32_t threads;      /* that compute, the caller's included; 0: as many as the processor has, at most 4 */
    int32_t verify;       /* a tercet_verify */
    const char *isa;      /* instruction set; NULL: TERCET_ISA of the environment, or the best */
    int32_t guard_mapping; /* not 0: a file that becomes shorter later is an error (TERCET_DAMAGED) and not the end of the
                              process. For that the library handles SIGBUS, and passes on what is not its own. */
} tercet_options;

/* Set every option to its default. `size` is sizeof(tercet_options). */
TERCET_API void tercet_options_init(tercet_options *options, size_t size);

/* Open a native file (.tercet). It is mapped, not copied; leave it in place while the model is in use. `options` may be
 * NULL. On failure *model is NULL. */
TERCET_API tercet_status tercet_open(const char *path, const tercet_options *options, tercet_model **model);

/* Let go of a model. NULL is allowed. */
TERCET_API void tercet_free(tercet_model *model);

/* How many tokens there are; ids are 0 to this minus 1. */
TERCET_API int32_t tercet_vocab_size(const tercet_model *model);

/* How many tokens a session can hold at most. */
TERCET_API int32_t tercet_max_context(const tercet_model *model);

/* What a text that is no conversation begins with, -1 for nothing. tercet_generate_text puts it there by itself. */
TERCET_API int32_t tercet_first_token(const tercet_model *model);

/* 1 if this token ends an answer, else 0. */
TERCET_API int32_t tercet_is_end(const tercet_model *model, int32_t token);

/* The instruction set of its kernels, as in "avx2". Lasts as long as the model. */
TERCET_API const char *tercet_isa(const tercet_model *model);

/* The Jinja template of its conversations, NULL if it has none. The library does not render it; build the tokens of a
 * conversation from tercet_control_token and tercet_tokenize. Lasts as long as the model. */
TERCET_API const char *tercet_chat_template(const tercet_model *model);

/* Text -------------------------------------------------------------------------------------------------------------- */

/* The length of a text that ends in a zero byte. */
#define TERCET_WHOLE ((size_t)-1)

/* Write the tokens of a text to `tokens`, which has room for `capacity`, and their number to *count. Nothing is added in
 * front or behind, and no text becomes a control token. If they do not fit, TERCET_TOO_SMALL: *count is what is needed.
 * Byte-level BPE in its usual forms is known; a tokenizer of another kind is TERCET_UNSUPPORTED, and the functions that take
 * tokens still work. */
TERCET_API tercet_status tercet_tokenize(const tercet_model *model, const char *text, size_t text_bytes, int32_t *tokens,
                                         size_t capacity, size_t *count);

/* Write the text of tokens to `text`, which has room for `capacity` bytes, and its length to *text_bytes; no zero byte
 * follows. Bytes that are no characters become U+FFFD; control tokens are left out unless `show_control` is not 0. If it
 * does not fit, TERCET_TOO_SMALL: *text_bytes is what is needed. */
TERCET_API tercet_status tercet_detokenize(const tercet_model *model, const int32_t *tokens, size_t count,
                                           int32_t show_control, char *text, size_t capacity, size_t *text_bytes);

/* Write the id of a control token, such as "<|user|>", to *token; -1 if there is none of this text. */
TERCET_API tercet_status tercet_control_token(const tercet_model *model, const char *text, int32_t *token);

/* Sampling ---------------------------------------------------------------------------------------------------------- */

/* How to choose tokens, and when to stop. tercet_sampling_init fills it in; then change what you like. */
typedef struct tercet_sampling {
    size_t size;               /* of this structure as the caller knows it */
    int32_t max_tokens;        /* most tokens of an answer; at least 1 */
    int32_t min_tokens;        /* no token ends the answer before it has so many */
    double temperature;        /* logits are divided by it; 0 always takes the likeliest token */
    double top_p;              /* keep the fewest likeliest tokens whose probabilities reach this sum; 1 keeps all */
    double min_p;              /* keep tokens at least this fraction as likely as the likeliest; 0 keeps all */
    int32_t top_k;             /* keep this many likeliest tokens; 0 keeps all */
    int32_t ignore_end;        /* not 0: go on when the model says that it has finished */
    double repetition_penalty; /* divides the positive logits of all tokens so far, multiplies the negative; 1 for none */
    double presence_penalty;   /* subtracted from the logit of every token that the answer holds already */
    double frequency_penalty;  /* subtracted as often as the answer holds the token already */
    int32_t has_seed;          /* 0: a new seed is drawn for each answer; tercet_session_seed tells it */
    uint64_t seed;             /* the same seed gives the same tokens */
    const char *const *stop;   /* texts before the first of which the answer ends; each ends in a zero byte */
    size_t num_stop;
} tercet_sampling;

/* Set everything to what the model's file says, and to the defaults where it says nothing; `model` may be NULL. `size` is
 * sizeof(tercet_sampling). `stop` then points to texts that last as long as the model. */
TERCET_API tercet_status tercet_sampling_init(const tercet_model *model, tercet_sampling *sampling, size_t size);

/* Sessions ---------------------------------------------------------------------------------------------------------- */

/* One text as it grows: its tokens, and the keys and values that were computed of them. */
typedef struct tercet_session tercet_session;

/* How keys and values are kept. */
typedef enum tercet_kv_type {
    TERCET_KV_F32 = 0,
    TERCET_KV_F16 = 1, /* half the memory */
    TERCET_KV_INT8 = 2 /* little more than a quarter */
} tercet_kv_type;

/* What a session is like. tercet_session_options_init fills it in; then change what you like. */
typedef struct tercet_session_options {
    size_t size;         /* of this structure as the caller knows it */
    int32_t max_context; /* most tokens; 0: as many as the model was trained for */
    int32_t kv_type;     /* a tercet_kv_type */
} tercet_session_options;

/* Set every option to its default. `size` is sizeof(tercet_session_options). */
TERCET_API void tercet_session_options_init(tercet_session_options *options, size_t size);

/* Begin an empty session. Memory is used as it fills. `options` may be NULL. On failure *session is NULL. */
TERCET_API tercet_status tercet_session_create(tercet_model *model, const tercet_session_options *options,
                                               tercet_session **session);

/* Let go of a session. NULL is allowed. */
TERCET_API void tercet_session_free(tercet_session *session);

/* How many tokens the session holds. */
TERCET_API size_t tercet_session_length(const tercet_session *session);

/* Keep only the first `length` tokens; 0 begins anew. Keys and values of these are kept. */
TERCET_API tercet_status tercet_session_truncate(tercet_session *session, size_t length);

/* Add tokens to the text. They are computed when they are needed. */
TERCET_API tercet_status tercet_session_append(tercet_session *session, const int32_t *tokens, size_t count);

/* Compute what has not been computed yet and let *logits point to the logits of the next token, tercet_vocab_size of them.
 * They last until the next call with this session. */
TERCET_API tercet_status tercet_session_logits(tercet_session *session, const float **logits);

/* What tercet_generate calls for each token of the answer: the token, and the text that has become certain with it, which
 * may be empty, never ends inside a character and is followed by no zero byte. After the last token it is called once more
 * with the token -1 if some text was still held back. Return 0 to go on, anything else to end the answer here. It must not
 * use the session. */
typedef int (*tercet_on_token)(void *user, int32_t token, const char *text, size_t text_bytes);

/* Why an answer has ended. */
typedef enum tercet_finish {
    TERCET_FINISH_NONE = 0,    /* there has been no answer, or it failed */
    TERCET_FINISH_STOP = 1,    /* the model has finished, or a stop text has come */
    TERCET_FINISH_LENGTH = 2,  /* max_tokens, or the context is full */
    TERCET_FINISH_CALLBACK = 3 /* the callback has said so */
} tercet_finish;

/* Add tokens to the text and let the model go on. The answer is added to the text, its end token too. `sampling` may be
 * NULL, then it is what tercet_sampling_init gives; `callback` may be NULL. Texts are passed to the callback, and stop texts
 * looked for, where the model's tokenizer is known; elsewhere the texts are empty, and stop texts TERCET_UNSUPPORTED. After
 * an error the session holds the tokens up to there. */
TERCET_API tercet_status tercet_generate(tercet_session *session, const int32_t *tokens, size_t count,
                                         const tercet_sampling *sampling, tercet_on_token callback, void *user);

/* The same for a text: behind tercet_first_token if the session is empty. */
TERCET_API tercet_status tercet_generate_text(tercet_session *session, const char *text, size_t text_bytes,
                                              const tercet_sampling *sampling, tercet_on_token callback, void *user);

/* Of the last answer: why it ended (a tercet_finish), the number of its tokens, and the seed that would give it again. */
TERCET_API int32_t tercet_session_finish(const tercet_session *session);
TERCET_API size_t tercet_session_answer_length(const tercet_session *session);
TERCET_API uint64_t tercet_session_seed(const tercet_session *session);

#ifdef __cplusplus
}
#endif

#endif

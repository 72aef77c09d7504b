// Exceptions to statuses, and the last message of each thread.
#include <new>

#include "capi/handles.hpp"
#include "formats/failures.hpp"
#include "formats/utf8.hpp"

namespace tercet::capi {
namespace {

constexpr std::size_t max_message_bytes = 1024;
thread_local char last_message[max_message_bytes] = "";

// Without allocating: memory may be what is missing.
tercet_status keep(tercet_status status, std::string_view message) noexcept {
    std::size_t size = std::min(message.size(), max_message_bytes - 1);
    while (size < message.size() && size > 0 && (message[size] & 0xC0) == 0x80) --size;  // not inside a character
    std::memcpy(last_message, message.data(), size);
    last_message[size] = '\0';
    return status;
}

}  // namespace

tercet_status report_current_exception() noexcept {
    try {
        throw;
    } catch (const Refusal& error) {
        return keep(error.status, error.what());
    } catch (const ChecksumError& error) {
        return keep(TERCET_CHECKSUM, error.what());
    } catch (const FormatError& error) {
        return keep(TERCET_FORMAT, error.what());
    } catch (const UnsupportedError& error) {
        return keep(TERCET_UNSUPPORTED, error.what());
    } catch (const NotFoundError& error) {
        return keep(TERCET_NOT_FOUND, error.what());
    } catch (const StorageError& error) {
        return keep(TERCET_STORAGE, error.what());
    } catch (const IsaError& error) {
        return keep(TERCET_ISA, error.what());
    } catch (const std::invalid_argument& error) {
        return keep(TERCET_INVALID_ARGUMENT, error.what());
    } catch (const std::bad_alloc&) {
        return keep(TERCET_NO_MEMORY, "memory is exhausted; open a smaller model, or a session with a smaller context");
    } catch (const std::exception& error) {
        return keep(TERCET_INTERNAL, error.what());
    } catch (...) {
        return keep(TERCET_INTERNAL, "an exception of an unknown kind");
    }
}

std::string_view checked_text(const char* text, std::size_t num_bytes) {
    if (num_bytes == 0) return {};
    needed(text, "text");
    const std::string_view view = num_bytes == TERCET_WHOLE ? std::string_view(text) : std::string_view(text, num_bytes);
    if (!is_utf8(view)) throw Refusal(TERCET_INVALID_ARGUMENT, "the text is not UTF-8");
    return view;
}

void check_tokens(const std::int32_t* tokens, std::size_t count, std::int32_t vocab_size) {
    if (count != 0) needed(tokens, "tokens");
    for (std::size_t i = 0; i < count; ++i)
        if (tokens[i] < 0 || tokens[i] >= vocab_size)
            throw Refusal(TERCET_INVALID_ARGUMENT, "token " + std::to_string(i) + " is " + std::to_string(tokens[i]) +
                                                       ", but the vocabulary has ids 0 to " + std::to_string(vocab_size - 1));
}

}  // namespace tercet::capi

extern "C" {

#define TERCET_TEXT_OF(number) #number
#define TERCET_TEXT(number) TERCET_TEXT_OF(number)

const char* tercet_version(void) {
    return TERCET_TEXT(TERCET_VERSION_MAJOR) "." TERCET_TEXT(TERCET_VERSION_MINOR) "." TERCET_TEXT(TERCET_VERSION_PATCH);
}

const char* tercet_last_error(void) { return tercet::capi::last_message; }

const char* tercet_status_name(tercet_status status) {
    switch (status) {
#define TERCET_CASE(name) \
    case name: return #name;
        TERCET_CASE(TERCET_OK)
        TERCET_CASE(TERCET_INVALID_ARGUMENT)
        TERCET_CASE(TERCET_NOT_FOUND)
        TERCET_CASE(TERCET_STORAGE)
        TERCET_CASE(TERCET_FORMAT)
        TERCET_CASE(TERCET_CHECKSUM)
        TERCET_CASE(TERCET_UNSUPPORTED)
        TERCET_CASE(TERCET_CONTEXT)
        TERCET_CASE(TERCET_NO_MEMORY)
        TERCET_CASE(TERCET_ISA)
        TERCET_CASE(TERCET_TOO_SMALL)
        TERCET_CASE(TERCET_DAMAGED)
        TERCET_CASE(TERCET_GENERATION)
        TERCET_CASE(TERCET_INTERNAL)
#undef TERCET_CASE
    }
    return "unknown status";
}

}  // extern "C"

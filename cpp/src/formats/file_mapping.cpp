#include "formats/file_mapping.hpp"

#include <cerrno>
#include <new>
#include <system_error>

#include "formats/failures.hpp"

#if defined(_WIN32)
#ifndef NOMINMAX
#define NOMINMAX
#endif
#include <windows.h>
#else
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#endif

namespace tercet {
namespace {

[[noreturn]] void refuse(const std::string& path, int code) {
    const std::error_code error(code, std::system_category());
    if (error == std::errc::no_such_file_or_directory) throw NotFoundError("there is no file " + path);
    if (error == std::errc::not_enough_memory) throw std::bad_alloc();
    throw StorageError("cannot read " + path + ": " + error.message() + ". Check the path and its permissions.");
}

[[noreturn]] void refuse_kind(const std::string& path) {
    throw FormatError(path + " is not a regular file, expected a file with a model in it");
}

#if defined(_WIN32)

struct Handle {
    HANDLE value;
    ~Handle() {
        if (value != nullptr && value != INVALID_HANDLE_VALUE) CloseHandle(value);
    }
};

std::wstring wide(const std::string& path) {
    const int length = MultiByteToWideChar(CP_UTF8, MB_ERR_INVALID_CHARS, path.c_str(), -1, nullptr, 0);
    if (length == 0) throw NotFoundError("the path is not UTF-8");
    std::wstring result(static_cast<std::size_t>(length), L'\0');
    MultiByteToWideChar(CP_UTF8, 0, path.c_str(), -1, result.data(), length);
    return result;
}

#else

struct Descriptor {
    int value;
    ~Descriptor() {
        if (value >= 0) close(value);
    }
};

#endif

}  // namespace

#if defined(_WIN32)

FileMapping::FileMapping(const std::string& path) : path_(path) {
    const Handle file{CreateFileW(wide(path).c_str(), GENERIC_READ, FILE_SHARE_READ | FILE_SHARE_DELETE, nullptr,
                                  OPEN_EXISTING, FILE_ATTRIBUTE_NORMAL, nullptr)};
    if (file.value == INVALID_HANDLE_VALUE) refuse(path, static_cast<int>(GetLastError()));
    if (GetFileType(file.value) != FILE_TYPE_DISK) refuse_kind(path);
    LARGE_INTEGER size;
    if (!GetFileSizeEx(file.value, &size)) refuse(path, static_cast<int>(GetLastError()));
    if (size.QuadPart == 0) throw FormatError(path + " is empty (0 bytes)");
    const Handle mapping{CreateFileMappingW(file.value, nullptr, PAGE_READONLY, 0, 0, nullptr)};
    if (mapping.value == nullptr) refuse(path, static_cast<int>(GetLastError()));
    data_ = static_cast<const std::uint8_t*>(MapViewOfFile(mapping.value, FILE_MAP_READ, 0, 0, 0));
    if (data_ == nullptr) refuse(path, static_cast<int>(GetLastError()));
    size_ = static_cast<std::size_t>(size.QuadPart);
}

FileMapping::~FileMapping() { UnmapViewOfFile(data_); }

#else

FileMapping::FileMapping(const std::string& path) : path_(path) {
    // O_NONBLOCK: a pipe would make us wait for its writer before we could see what it is.
    const Descriptor file{open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
    if (file.value < 0) refuse(path, errno);
    struct stat status {};
    if (fstat(file.value, &status) != 0) refuse(path, errno);
    if (!S_ISREG(status.st_mode)) refuse_kind(path);
    if (status.st_size == 0) throw FormatError(path + " is empty (0 bytes)");
    size_ = static_cast<std::size_t>(status.st_size);
    void* const data = mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.value, 0);
    if (data == MAP_FAILED) refuse(path, errno);
    data_ = static_cast<const std::uint8_t*>(data);
}

FileMapping::~FileMapping() { munmap(const_cast<std::uint8_t*>(data_), size_); }

#endif

}  // namespace tercet

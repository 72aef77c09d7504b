// A file, mapped into memory to be read.
#pragma once

#include <cstdint>
#include <span>
#include <string>

namespace tercet {

class FileMapping {
  public:
    // `path` is in UTF-8 on Windows, in the file system's bytes elsewhere.
    // Throws NotFoundError, StorageError; FormatError when it is empty or not a regular file.
    explicit FileMapping(const std::string& path);
    ~FileMapping();
    FileMapping(const FileMapping&) = delete;
    FileMapping& operator=(const FileMapping&) = delete;

    const std::string& path() const noexcept { return path_; }
    std::span<const std::uint8_t> bytes() const noexcept { return {data_, size_}; }

  private:
    std::string path_;
    const std::uint8_t* data_ = nullptr;
    std::size_t size_ = 0;
};

}  // namespace tercet

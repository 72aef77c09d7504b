// What can be wrong with a file, under the names that src/tercet/errors.py has for it.
#pragma once

#include <stdexcept>
#include <string>

namespace tercet {

// The file is not what it should be.
class FormatError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// Its content has changed since it was written.
class ChecksumError : public FormatError {
  public:
    using FormatError::FormatError;
};

// It may be sound, and this release has no code for it.
class UnsupportedError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

class NotFoundError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

// The operating system does not let us read it.
class StorageError : public std::runtime_error {
  public:
    using std::runtime_error::runtime_error;
};

}  // namespace tercet

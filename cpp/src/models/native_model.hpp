// A native file as a model that can compute: its parts checked against each other, as src/tercet/models/loading.py does it.
#pragma once

#include <memory>
#include <string>

#include "formats/native_file.hpp"
#include "models/config.hpp"
#include "tercet/decoder.hpp"

namespace tercet {

enum class Verification { by_size, always, never };  // by_size: up to 4 GiB

class NativeModel {
  public:
    // Throws what NativeFile throws; IsaError; std::invalid_argument when there can be no such number of threads. An empty
    // `isa` is TERCET_ISA or the best. With `guarded`, a file that becomes shorter later sets a mark instead of ending
    // the process (tercet/mapped_guard.hpp).
    NativeModel(const std::string& path, Verification verification, const std::string& isa, int threads, bool guarded);
    ~NativeModel();
    NativeModel(const NativeModel&) = delete;
    NativeModel& operator=(const NativeModel&) = delete;

    const NativeFile& file() const noexcept { return file_; }
    const ModelConfig& config() const noexcept { return config_; }
    Decoder& decoder() const noexcept { return *decoder_; }  // whose callers take turns
    bool is_damaged() const noexcept;

  private:
    void check_tensors() const;

    NativeFile file_;
    ModelConfig config_;
    std::unique_ptr<Decoder> decoder_;
    int guard_ = -1;
};

}  // namespace tercet

// CRC-32 (IEEE 802.3, as zlib computes it) and SHA-256 (FIPS 180-4).
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <string>

namespace tercet {

std::uint32_t crc32(std::span<const std::uint8_t> data) noexcept;

class Sha256 {
  public:
    void update(std::span<const std::uint8_t> data) noexcept;
    std::string hex_digest();  // 64 lower-case digits; the last call

  private:
    void add_block(const std::uint8_t* block) noexcept;

    std::array<std::uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                        0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
    std::array<std::uint8_t, 64> block_{};
    std::size_t num_held_ = 0;
    std::uint64_t num_bytes_ = 0;
};

}  // namespace tercet

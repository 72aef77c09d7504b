// Matrices of the decoder as Python hands them over: views of arrays (memory-mapped, read-only ones as well), which they
// keep alive.
#pragma once

#include <nanobind/ndarray.h>

#include <span>
#include <utility>
#include <vector>

#include "packed_matrix.hpp"
#include "tercet/ops.hpp"

namespace tercet::bindings {

using ByteVector = nb::ndarray<const std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using FloatVector = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using AnyVector = nb::ndarray<nb::ro, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

// A packed matrix and the arrays that it lies in.
class TernaryMatrixArray {
  public:
    // A group_size of 0 stands for scales that are 1 or one per row.
    TernaryMatrixArray(ByteVector data, const std::string& packing, std::size_t rows, std::size_t depth, FloatVector scales,
                       std::size_t group_size)
        : data_(std::move(data)), scales_(std::move(scales)), packing_(packing) {
        check_packed_size("TernaryMatrix", packed_matrix("TernaryMatrix", packing, rows, depth), data_.size());
        if (group_size % two_bit_tile_columns != 0)
            reject("TernaryMatrix", "group_size", "a multiple of " + std::to_string(two_bit_tile_columns),
                   std::to_string(group_size));
        const Packing kind = packing == "two_bit" ? Packing::two_bit : Packing::five_per_byte;
        const std::size_t scale_step = scales_.size() == 1 ? 0 : 1;
        matrix_ = {kind, data_.data(), rows, depth, scales_.data(), scale_step, group_size};
        const std::size_t per_row = matrix_.groups();
        if (scales_.size() != rows * per_row && (matrix_.grouped() || scales_.size() != 1))
            reject("TernaryMatrix", "scales",
                   (matrix_.grouped() ? "" : "1 or ") + std::to_string(rows * per_row) + " numbers",
                   std::to_string(scales_.size()));
    }

    const TernaryMatrix& matrix() const noexcept { return matrix_; }
    const std::string& packing() const noexcept { return packing_; }
    std::size_t num_bytes() const noexcept { return data_.size() + scales_.size() * sizeof(float); }

  private:
    ByteVector data_;
    FloatVector scales_;
    std::string packing_;
    TernaryMatrix matrix_;
};

// A matrix in two planes and the arrays that it lies in: all rows of the high plane, then all of the low one.
class PlaneMatrixArray {
  public:
    PlaneMatrixArray(ByteVector data, const std::string& type, std::size_t rows, std::size_t depth, FloatVector scales)
        : data_(std::move(data)), scales_(std::move(scales)), type_(type) {
        if (type != "int8_planes" && type != "int6_planes")
            reject("PlaneMatrix", "type", "'int8_planes' or 'int6_planes'", "'" + type + "'");
        if (depth < 1 || depth > max_plane_depth)
            reject("PlaneMatrix", "depth", "1 to " + std::to_string(max_plane_depth), std::to_string(depth));
        if (rows < 1 || rows > std::size_t{1} << 31) reject("PlaneMatrix", "rows", "1 to 2^31", std::to_string(rows));
        matrix_ = {type == "int8_planes" ? 8 : 6, data_.data(), nullptr, rows, depth, scales_.data()};
        const std::size_t high_bytes = rows * matrix_.chunks() * four_bit_chunk_bytes;
        const std::size_t expected = high_bytes + rows * matrix_.chunks() * matrix_.low_chunk_bytes();
        if (data_.size() != expected)
            reject("PlaneMatrix", "data", std::to_string(expected) + " bytes", std::to_string(data_.size()));
        if (scales_.size() != rows)
            reject("PlaneMatrix", "scales", std::to_string(rows) + " numbers", std::to_string(scales_.size()));
        matrix_.low = data_.data() + high_bytes;
        matrix_.measure_scales();
    }

    const PlaneMatrix& matrix() const noexcept { return matrix_; }
    const std::string& type() const noexcept { return type_; }
    std::size_t num_bytes() const noexcept { return data_.size() + scales_.size() * sizeof(float); }

  private:
    ByteVector data_;
    FloatVector scales_;
    std::string type_;
    PlaneMatrix matrix_;
};

// A float matrix and the array that it lies in: float32, float16 (or its bits as uint16), bfloat16 as uint16.
class FloatMatrixArray {
  public:
    FloatMatrixArray(AnyVector data, const std::string& type, std::size_t rows, std::size_t depth)
        : data_(std::move(data)), type_(type) {
        if (rows < 1 || depth < 1 || data_.size() / depth != rows || data_.size() % depth != 0)
            reject("FloatMatrix", "data", std::to_string(rows) + " x " + std::to_string(depth) + " elements",
                   std::to_string(data_.size()));
        matrix_.rows = rows;
        matrix_.depth = depth;
        const bool is_bits = data_.dtype() == nb::dtype<std::uint16_t>();
        const bool is_half = data_.dtype() == nb::dlpack::dtype{static_cast<std::uint8_t>(nb::dlpack::dtype_code::Float), 16, 1};
        if (type == "f32") {
            if (data_.dtype() != nb::dtype<float>()) reject("FloatMatrix", "data of type f32", "float32", "another type");
            matrix_.data = static_cast<const float*>(data_.data());
        } else if (type == "f16") {
            if (!is_half && !is_bits) reject("FloatMatrix", "data of type f16", "float16 or uint16", "another type");
            matrix_.data = static_cast<const float16*>(data_.data());
        } else if (type == "bf16") {
            if (!is_bits) reject("FloatMatrix", "data of type bf16", "uint16", "another type");
            matrix_.data = static_cast<const bfloat16*>(data_.data());
        } else {
            reject("FloatMatrix", "type", "'f32', 'f16' or 'bf16'", "'" + type + "'");
        }
    }

    const FloatMatrix& matrix() const noexcept { return matrix_; }
    const std::string& type() const noexcept { return type_; }
    std::size_t num_bytes() const noexcept { return data_.nbytes(); }

  private:
    AnyVector data_;
    std::string type_;
    FloatMatrix matrix_;
};

// What logits are for, as numbers.
inline std::vector<LogitUse> logit_uses_of(const char* operation, std::span<const std::uint8_t> numbers) {
    std::vector<LogitUse> uses;
    for (const std::uint8_t number : numbers) {
        if (number >= num_logit_uses)
            reject(operation, "a use of logits", "0 to " + std::to_string(num_logit_uses - 1), std::to_string(number));
        uses.push_back(static_cast<LogitUse>(number));
    }
    return uses;
}

}  // namespace tercet::bindings

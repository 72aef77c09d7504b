// Exact operations must give the reference's integers for any bytes, so the test feeds pseudo-random bytes (also those
// that no honest packing contains) and extreme activations, in shapes around the tile and register-block sizes.
// Operations that add floats must give the reference's bits.
#include <algorithm>
#include <cstdint>
#include <cstring>

#include "dispatch/random_values.hpp"
#include "dispatch/self_test.hpp"
#include "tercet/aligned_buffer.hpp"

namespace tercet {
namespace {

using Shape = SelfTestShapes::Product;
using Shapes = std::span<const Shape>;

std::string describe(const Shape& shape) {
    return std::to_string(shape.row_tiles) + " row tiles, depth " + std::to_string(shape.depth) + ", " +
           std::to_string(shape.tokens) + " tokens";
}

using Matmul = void (*)(const TernaryMatmul&) noexcept;

// Activations as a kernel wants them, in pieces that are made one by one, the last first.
struct Prepared {
    std::size_t stride = 0;
    AlignedBuffer<std::uint8_t> bytes;
};
Prepared prepare_five_per_byte(const TernaryKernels& kernels, const Shape& shape, const std::vector<std::int8_t>& activations,
                               std::size_t activation_stride) {
    Prepared prepared;
    prepared.stride = kernels.prepared_stride_five_per_byte(shape.depth, shape.tokens);
    if (prepared.stride == 0) return prepared;
    prepared.bytes.reserve(shape.tokens * prepared.stride);
    for (std::size_t token = 0; token < shape.tokens; ++token)
        for (std::size_t piece = (shape.depth + prepared_piece_columns - 1) / prepared_piece_columns; piece-- > 0;)
            kernels.prepare_five_per_byte({activations.data() + token * activation_stride, shape.depth, prepared.stride, piece,
                                           piece + 1, prepared.bytes.data() + token * prepared.stride});
    return prepared;
}

// `preparing`: the kernels whose prepared activations this kernel reads, or nullptr.
SelfTestResult test_matmul(Shapes shapes, const char* operation, Matmul kernel, Matmul reference,
                           const TernaryKernels* preparing, std::size_t tile_rows, std::size_t tile_columns) {
    if (kernel == reference) return {operation, true, ""};
    for (const Shape& shape : shapes) {
        RandomValues random(shape.depth);
        std::vector<std::uint8_t> packed(shape.row_tiles * ((shape.depth + tile_columns - 1) / tile_columns) *
                                         tile_bytes);
        std::generate(packed.begin(), packed.end(), [&] { return random.byte(); });

        const std::size_t stride =
            (shape.depth + activation_alignment - 1) / activation_alignment * activation_alignment;
        std::vector<std::int8_t> activations(shape.tokens * stride);
        std::vector<std::int32_t> sums(shape.tokens);
        for (std::size_t token = 0; token < shape.tokens; ++token) {
            for (std::size_t column = 0; column < shape.depth; ++column) {
                const auto value = static_cast<std::int8_t>(token == 0 ? 127 : random.byte());
                activations[token * stride + column] = value;
                sums[token] += value;
            }
        }

        const std::size_t rows = shape.row_tiles * tile_rows, out_stride = rows + 3;
        std::vector<std::int32_t> expected(shape.tokens * out_stride, 7), got(expected);
        TernaryMatmul task{packed.data(),      shape.depth, 0,           shape.row_tiles,
                           activations.data(), stride,      sums.data(), shape.tokens,
                           expected.data(),    out_stride};
        reference(task);
        task.out = got.data();
        Prepared prepared;
        if (preparing != nullptr) prepared = prepare_five_per_byte(*preparing, shape, activations, stride);
        task.prepared = prepared.bytes.data();
        task.prepared_stride = prepared.stride;
        kernel(task);
        if (got != expected) {
            const auto where = std::mismatch(got.begin(), got.end(), expected.begin());
            const auto index = static_cast<std::size_t>(where.first - got.begin());
            return {operation, false,
                    describe(shape) + ": token " + std::to_string(index / out_stride) + ", row " +
                        std::to_string(index % out_stride) + " is " + std::to_string(*where.first) + " instead of " +
                        std::to_string(*where.second)};
        }
    }
    return {operation, true, ""};
}

constexpr std::size_t group_sizes[] = {16, 128, 640, 1024};  // part of a panel, several panels, more than the depth

// The first float that differs in any bit, or an empty text.
std::string difference(const std::vector<float>& got, const std::vector<float>& expected, std::size_t stride) {
    for (std::size_t i = 0; i < got.size(); ++i)
        if (std::memcmp(&got[i], &expected[i], sizeof(float)) != 0)
            return "token " + std::to_string(i / stride) + ", row " + std::to_string(i % stride) + " is " +
                   std::to_string(got[i]) + " instead of " + std::to_string(expected[i]);
    return "";
}

// Calls compare(shape, group size, random, packed bytes, scales) for each shape and group size until it finds something.
template <class Compare>
SelfTestResult test_groups(Shapes shapes, const char* operation, Compare compare) {
    for (const Shape& shape : shapes) {
        for (const std::size_t group_size : group_sizes) {
            RandomValues random(shape.depth + group_size);
            const std::size_t groups = (shape.depth + group_size - 1) / group_size;
            std::vector<std::uint8_t> packed(shape.row_tiles * ((shape.depth + two_bit_tile_columns - 1) / two_bit_tile_columns) *
                                             tile_bytes);
            std::generate(packed.begin(), packed.end(), [&] { return random.byte(); });
            const std::vector<float> scales = random.reals(shape.row_tiles * groups * two_bit_tile_rows);
            const std::string found = compare(shape, group_size, groups, random, packed, scales);
            if (!found.empty())
                return {operation, false, describe(shape) + ", groups of " + std::to_string(group_size) + ": " + found};
        }
    }
    return {operation, true, ""};
}

SelfTestResult test_grouped_matmul(Shapes shapes, const TernaryKernels& kernels, const TernaryKernels& reference) {
    const char* const operation = "matmul_two_bit_grouped";
    if (kernels.matmul_two_bit_grouped == reference.matmul_two_bit_grouped) return {operation, true, ""};
    return test_groups(shapes, operation, [&](const Shape& shape, std::size_t group_size, std::size_t groups,
                                              RandomValues& random, const std::vector<std::uint8_t>& packed, const std::vector<float>& scales) {
        const std::size_t stride =
            (shape.depth + activation_alignment - 1) / activation_alignment * activation_alignment;
        std::vector<std::int8_t> activations(shape.tokens * stride);
        std::vector<std::int32_t> sums(shape.tokens * groups);
        for (std::size_t token = 0; token < shape.tokens; ++token) {
            for (std::size_t column = 0; column < shape.depth; ++column) {
                const auto value = static_cast<std::int8_t>(token == 0 ? 127 : random.byte());
                activations[token * stride + column] = value;
                sums[token * groups + column / group_size] += value;
            }
        }
        const std::vector<float> activation_scales = random.reals(shape.tokens);
        const std::size_t out_stride = shape.row_tiles * two_bit_tile_rows + 3;
        std::vector<float> expected(shape.tokens * out_stride, 7.0F), got(expected);
        GroupedTernaryMatmul task{packed.data(),
                                  shape.depth,
                                  group_size,
                                  0,
                                  shape.row_tiles,
                                  activations.data(),
                                  stride,
                                  sums.data(),
                                  activation_scales.data(),
                                  scales.data(),
                                  shape.tokens,
                                  expected.data(),
                                  out_stride};
        reference.matmul_two_bit_grouped(task);
        task.out = got.data();
        kernels.matmul_two_bit_grouped(task);
        return difference(got, expected, out_stride);
    });
}

SelfTestResult test_float_matmul(Shapes shapes, const TernaryKernels& kernels, const TernaryKernels& reference) {
    const char* const operation = "multiply_two_bit_floats";
    if (kernels.multiply_two_bit_floats == reference.multiply_two_bit_floats) return {operation, true, ""};
    return test_groups(shapes, operation, [&](const Shape& shape, std::size_t group_size, std::size_t,
                                              RandomValues& random, const std::vector<std::uint8_t>& packed, const std::vector<float>& scales) {
        const std::size_t stride = shape.depth + 5, out_stride = shape.row_tiles * two_bit_tile_rows + 3;
        const std::vector<float> vectors = random.reals(shape.tokens * stride);
        std::vector<float> expected(shape.tokens * out_stride, 7.0F), got(expected);
        FloatTernaryMatmul task{packed.data(),  shape.depth, group_size,    0,            shape.row_tiles, vectors.data(),
                                stride,         scales.data(), shape.tokens, expected.data(), out_stride};
        reference.multiply_two_bit_floats(task);
        task.out = got.data();
        kernels.multiply_two_bit_floats(task);
        return difference(got, expected, out_stride);
    });
}

using Pack = std::size_t (*)(const std::int8_t*, std::size_t, std::size_t, std::uint8_t*) noexcept;
using Unpack = std::size_t (*)(const std::uint8_t*, std::size_t, std::size_t, std::int8_t*) noexcept;

// What the packing of a matrix is called, and how large its tiles are.
struct PackingNames {
    const char *pack, *unpack;
    std::size_t tile_rows, tile_columns;
};

// Packs and unpacks as many codes as a shape says, in 7 rows for each of its row tiles; then with one byte damaged, which
// must be found as the reference finds it.
void test_packing(Shapes shapes, const PackingNames& names, Pack pack, Pack reference_pack, Unpack unpack,
                  Unpack reference_unpack, std::vector<SelfTestResult>& results) {
    SelfTestResult packing{names.pack, true, ""}, unpacking{names.unpack, true, ""};
    for (const Shape& shape : shapes) {
        const std::size_t rows = 7 * shape.row_tiles, depth = shape.depth;
        const std::size_t packed_bytes = (rows + names.tile_rows - 1) / names.tile_rows *
                                         ((depth + names.tile_columns - 1) / names.tile_columns) * tile_bytes;
        const std::string what = std::to_string(rows) + " x " + std::to_string(depth) + " codes ";
        RandomValues random(depth + rows);
        std::vector<std::int8_t> codes(rows * depth);
        std::generate(codes.begin(), codes.end(), [&] { return static_cast<std::int8_t>(random.byte() % 3 - 1); });
        std::vector<std::uint8_t> expected(packed_bytes), got(packed_bytes);
        if (reference_pack(codes.data(), rows, depth, expected.data()) != pack(codes.data(), rows, depth, got.data()) ||
            got != expected)
            packing = {names.pack, false, what + "pack into other bytes"};

        std::vector<std::int8_t> read_back(codes.size()), reference_read_back(codes.size());
        const auto unpack_alike = [&] {
            return unpack(expected.data(), rows, depth, read_back.data()) ==
                   reference_unpack(expected.data(), rows, depth, reference_read_back.data());
        };
        if (!unpack_alike() || read_back != codes || reference_read_back != codes)
            unpacking = {names.unpack, false, what + "do not come back"};
        expected[random.byte() % packed_bytes] ^= random.byte();
        if (!unpack_alike()) unpacking = {names.unpack, false, what + "hide a damaged byte"};
    }
    results.push_back(packing);
    results.push_back(unpacking);
}

}  // namespace

void test_ternary_kernels(const SelfTestShapes& shapes, const TernaryKernels& kernels, const TernaryKernels& reference,
                          std::vector<SelfTestResult>& results) {
    results.push_back(test_matmul(shapes.products, "matmul_two_bit", kernels.matmul_two_bit, reference.matmul_two_bit,
                                  nullptr, two_bit_tile_rows, two_bit_tile_columns));
    results.push_back(test_matmul(shapes.products, "matmul_five_per_byte", kernels.matmul_five_per_byte,
                                  reference.matmul_five_per_byte, &kernels, five_per_byte_tile_rows, five_per_byte_tile_columns));
    results.push_back(test_grouped_matmul(shapes.products, kernels, reference));
    results.push_back(test_float_matmul(shapes.products, kernels, reference));
    test_packing(shapes.products, {"pack_two_bit", "unpack_two_bit", two_bit_tile_rows, two_bit_tile_columns},
                 kernels.pack_two_bit, reference.pack_two_bit, kernels.unpack_two_bit, reference.unpack_two_bit, results);
    test_packing(shapes.products,
                 {"pack_five_per_byte", "unpack_five_per_byte", five_per_byte_tile_rows, five_per_byte_tile_columns},
                 kernels.pack_five_per_byte, reference.pack_five_per_byte, kernels.unpack_five_per_byte,
                 reference.unpack_five_per_byte, results);
}

}  // namespace tercet

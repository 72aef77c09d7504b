// The float kernels on arrays: for tests, which hold every instruction set against the reference, and for small jobs.
#include <nanobind/stl/tuple.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <memory>
#include <tuple>
#include <vector>

#include "activation.hpp"
#include "matrix_arrays.hpp"

namespace tercet::bindings {
namespace {

using FloatRows = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using IntegerVector = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <class T>
using Result = nb::ndarray<nb::numpy, T>;

template <class T>
struct NewArray {
    explicit NewArray(std::size_t size) : values(std::make_unique<T[]>(size)) {}
    T* data() { return values.get(); }
    Result<T> finish(std::initializer_list<std::size_t> shape) {
        T* data = values.release();
        return Result<T>(data, shape, nb::capsule(data, [](void* memory) noexcept { delete[] static_cast<T*>(memory); }));
    }
    std::unique_ptr<T[]> values;
};

void check_size(const char* operation, const char* operand, std::size_t expected, std::size_t got) {
    if (expected != got) reject(operation, operand, std::to_string(expected) + " numbers", std::to_string(got));
}

std::tuple<Result<std::int8_t>, float, std::int32_t> quantize(const FloatVector& x, const IsaName& isa) {
    NewArray<std::int8_t> codes(x.size());
    std::int32_t sum = 0;
    const float scale = table_of(isa).floats.quantize(x.data(), x.size(), x.size(), codes.data(), &sum);
    return {codes.finish({x.size()}), scale, sum};
}

Result<float> rms_norm(const FloatVector& x, const FloatVector& weight, float epsilon, const IsaName& isa) {
    check_size("rms_norm", "weight", x.size(), weight.size());
    NewArray<float> out(x.size());
    table_of(isa).floats.rms_norm(x.data(), weight.data(), x.size(), epsilon, out.data());
    return out.finish({x.size()});
}

Result<float> gated(const FloatVector& gate, const FloatVector& up, const std::string& activation, const IsaName& isa) {
    check_size("gated", "up", gate.size(), up.size());
    const auto kernel = gated_kernel(table_of(isa).floats, activation_named("gated", "activation", activation));
    NewArray<float> out(gate.size());
    kernel(gate.data(), up.data(), gate.size(), out.data());
    return out.finish({gate.size()});
}

// sums * (activation_scale * row_scales), added to `to` if it is not empty.
Result<float> rescale(const IntegerVector& sums, float activation_scale, const FloatVector& row_scales, const FloatVector& to,
                      const IsaName& isa) {
    const std::size_t size = sums.size();
    if (size == 0) reject("rescale", "sums", "at least one number", "none");
    if (row_scales.size() != 1) check_size("rescale", "row_scales", size, row_scales.size());
    if (to.size() != 0) check_size("rescale", "to", size, to.size());
    const FloatKernels& kernels = table_of(isa).floats;
    NewArray<float> out(size);
    if (to.size() != 0) std::memcpy(out.data(), to.data(), size * sizeof(float));
    (to.size() != 0 ? kernels.rescale_add : kernels.rescale)(sums.data(), activation_scale, row_scales.data(),
                                                             row_scales.size() == 1 ? 0 : 1, size, out.data());
    return out.finish({size});
}

Result<float> rotate(const FloatVector& head, std::size_t position, const FloatVector& inverse_frequencies,
                     float attention_factor, float factor, const IsaName& isa) {
    if (head.size() == 0 || head.size() % 2 != 0) reject("rotate", "head", "of even size", std::to_string(head.size()));
    const std::size_t half = head.size() / 2;
    check_size("rotate", "inverse_frequencies", half, inverse_frequencies.size());
    std::vector<float> cosines(half), sines(half);
    rotation(position, {inverse_frequencies.data(), half}, attention_factor, cosines.data(), sines.data());
    NewArray<float> out(head.size());
    std::memcpy(out.data(), head.data(), head.size() * sizeof(float));
    table_of(isa).floats.rotate(out.data(), cosines.data(), sines.data(), half, factor);
    return out.finish({head.size()});
}

// values [rows, width] in blocks, the transform of each.
Result<float> hadamard(const FloatRows& values, std::size_t block_size, const IsaName& isa) {
    const std::size_t width = values.shape(1);
    if (!std::has_single_bit(block_size) || width % block_size != 0)
        reject("hadamard", "block_size", "a power of two that divides " + std::to_string(width), std::to_string(block_size));
    const FloatKernels& kernels = table_of(isa).floats;
    NewArray<float> out(values.size());
    std::copy_n(values.data(), values.size(), out.data());
    for (std::size_t i = 0; i < values.size(); i += block_size) kernels.hadamard(out.data() + i, block_size);
    return out.finish({values.shape(0), width});
}

Result<float> softmax(const FloatVector& scores, const IsaName& isa) {
    if (scores.size() == 0) reject("softmax", "scores", "at least one number", "none");
    NewArray<float> out(scores.size());
    std::memcpy(out.data(), scores.data(), scores.size() * sizeof(float));
    table_of(isa).floats.softmax(out.data(), scores.size());
    return out.finish({scores.size()});
}

// Weights, and what merging them with others needs: the greatest score and the sum of the exponentials.
std::tuple<Result<float>, float, float> softmax_sums(const FloatVector& scores, const IsaName& isa) {
    if (scores.size() == 0) reject("softmax_sums", "scores", "at least one number", "none");
    NewArray<float> out(scores.size());
    std::memcpy(out.data(), scores.data(), scores.size() * sizeof(float));
    const SoftmaxSums sums = table_of(isa).floats.softmax(out.data(), scores.size());
    return {out.finish({scores.size()}), sums.greatest, sums.sum};
}

std::tuple<Result<float>, float, float> merge_softmax(const FloatVector& average, float greatest, float sum,
                                                      const FloatVector& other, float other_greatest, float other_sum,
                                                      const IsaName& isa) {
    check_size("merge_softmax", "other", average.size(), other.size());
    NewArray<float> out(average.size());
    std::copy_n(average.data(), average.size(), out.data());
    SoftmaxSums sums = {greatest, sum};
    table_of(isa).floats.merge_softmax(&sums, out.data(), {other_greatest, other_sum}, other.data(), other.size());
    return {out.finish({other.size()}), sums.greatest, sums.sum};
}

Result<float> dot_rows(const FloatMatrixArray& matrix, const FloatRows& vectors, const IsaName& isa) {
    const FloatMatrix& rows = matrix.matrix();
    check_size("dot_rows", "a vector", rows.depth, vectors.shape(1));
    const FloatKernels& kernels = table_of(isa).floats;
    const std::size_t num_vectors = vectors.shape(0);
    NewArray<float> out(num_vectors * rows.rows);
    const auto run = [&](auto kernel, const auto* data) {
        kernel(data, rows.rows, rows.depth, vectors.data(), rows.depth, num_vectors, out.data(), rows.rows, nullptr);
    };
    if (const auto* f32 = std::get_if<const float*>(&rows.data)) run(kernels.dot_rows_f32, *f32);
    if (const auto* f16 = std::get_if<const float16*>(&rows.data)) run(kernels.dot_rows_f16, *f16);
    if (const auto* bf16 = std::get_if<const bfloat16*>(&rows.data)) run(kernels.dot_rows_bf16, *bf16);
    return out.finish({num_vectors, rows.rows});
}

Result<float> add_weighted_rows(const FloatMatrixArray& matrix, const FloatRows& weights, const FloatRows& to,
                                const IsaName& isa) {
    const FloatMatrix& rows = matrix.matrix();
    check_size("add_weighted_rows", "a row of weights", rows.rows, weights.shape(1));
    check_size("add_weighted_rows", "to", weights.shape(0) * rows.depth, to.size());
    const FloatKernels& kernels = table_of(isa).floats;
    NewArray<float> out(to.size());
    std::memcpy(out.data(), to.data(), to.size() * sizeof(float));
    const auto run = [&](auto kernel, const auto* data) {
        kernel(data, rows.rows, rows.depth, weights.data(), rows.rows, weights.shape(0), out.data(), nullptr);
    };
    if (const auto* f32 = std::get_if<const float*>(&rows.data)) {
        run(kernels.add_weighted_rows_f32, *f32);
    } else if (const auto* f16 = std::get_if<const float16*>(&rows.data)) {
        run(kernels.add_weighted_rows_f16, *f16);
    } else {
        reject("add_weighted_rows", "rows", "f32 or f16", "bf16");
    }
    return out.finish({weights.shape(0), rows.depth});
}

Result<float> widen(const FloatMatrixArray& matrix, const IsaName& isa) {
    const FloatMatrix& rows = matrix.matrix();
    const FloatKernels& kernels = table_of(isa).floats;
    const std::size_t size = rows.rows * rows.depth;
    NewArray<float> out(size);
    if (const auto* f32 = std::get_if<const float*>(&rows.data)) std::memcpy(out.data(), *f32, size * sizeof(float));
    if (const auto* f16 = std::get_if<const float16*>(&rows.data)) kernels.widen_f16(*f16, size, out.data());
    if (const auto* bf16 = std::get_if<const bfloat16*>(&rows.data)) kernels.widen_bf16(*bf16, size, out.data());
    return out.finish({rows.rows, rows.depth});
}

Result<std::uint16_t> narrow_f16(const FloatVector& values, const IsaName& isa) {
    NewArray<std::uint16_t> out(values.size());
    std::vector<float16> narrow(values.size());
    table_of(isa).floats.narrow_f16(values.data(), values.size(), narrow.data());
    std::memcpy(out.data(), narrow.data(), values.size() * sizeof(float16));
    return out.finish({values.size()});
}

}  // namespace

void bind_floats(nb::module_& module) {
    const auto isa = [] { return nb::arg("isa") = nb::none(); };
    module.def("quantize", &quantize, nb::arg("x").noconvert(), isa());
    module.def("rms_norm", &rms_norm, nb::arg("x").noconvert(), nb::arg("weight").noconvert(), nb::arg("epsilon"), isa());
    module.def("gated", &gated, nb::arg("gate").noconvert(), nb::arg("up").noconvert(), nb::arg("activation"), isa());
    module.def("rescale", &rescale, nb::arg("sums").noconvert(), nb::arg("activation_scale"),
               nb::arg("row_scales").noconvert(), nb::arg("to").noconvert(), isa());
    module.def("rotate", &rotate, nb::arg("head").noconvert(), nb::arg("position"),
               nb::arg("inverse_frequencies").noconvert(), nb::arg("attention_factor"), nb::arg("factor"), isa());
    module.def("hadamard", &hadamard, nb::arg("values").noconvert(), nb::arg("block_size"), isa());
    module.def("softmax", &softmax, nb::arg("scores").noconvert(), isa());
    module.def("softmax_sums", &softmax_sums, nb::arg("scores").noconvert(), isa());
    module.def("merge_softmax", &merge_softmax, nb::arg("average").noconvert(), nb::arg("greatest"), nb::arg("sum"),
               nb::arg("other").noconvert(), nb::arg("other_greatest"), nb::arg("other_sum"), isa());
    module.def("dot_rows", &dot_rows, nb::arg("matrix"), nb::arg("vectors").noconvert(), isa());
    module.def("add_weighted_rows", &add_weighted_rows, nb::arg("matrix"), nb::arg("weights").noconvert(),
               nb::arg("to").noconvert(), isa());
    module.def("widen", &widen, nb::arg("matrix"), isa());
    module.def("narrow_f16", &narrow_f16, nb::arg("values").noconvert(), isa());
}

}  // namespace tercet::bindings

// The ternary kernels on arrays: packing, unpacking, and the matrix product. For tests, tools and small jobs; a model
// runs through the decoder, which calls the same table.
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstring>
#include <memory>

#include "bindings.hpp"
#include "ternary_product.hpp"

namespace tercet::bindings {
namespace {

using Codes = nb::ndarray<const std::int8_t, nb::ndim<2>, nb::c_contig, nb::device::cpu>;
using PackedBytes = nb::ndarray<const std::uint8_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

template <class T>
using NumpyArray = nb::ndarray<nb::numpy, T>;

template <class T>
NumpyArray<T> numpy_array(std::unique_ptr<T[]> values, std::initializer_list<std::size_t> shape) {
    T* data = values.get();
    const nb::capsule owner(values.release(), [](void* memory) noexcept { delete[] static_cast<T*>(memory); });
    return NumpyArray<T>(data, shape, owner);
}

NumpyArray<std::uint8_t> pack(const Codes& codes, const std::string& packing, const IsaName& isa) {
    const PackedMatrix matrix = packed_matrix("pack", packing, codes.shape(0), codes.shape(1));
    const TernaryKernels& kernels = table_of(isa).ternary;
    auto packed = std::make_unique_for_overwrite<std::uint8_t[]>(matrix.num_bytes());
    std::size_t bad;
    {
        const nb::gil_scoped_release release;
        bad = (kernels.*matrix.pack)(codes.data(), matrix.rows, matrix.depth, packed.get());
    }
    if (bad != matrix.rows * matrix.depth)
        reject("pack", "codes[" + std::to_string(bad / matrix.depth) + ", " + std::to_string(bad % matrix.depth) + "]",
               "-1, 0 or 1", std::to_string(codes.data()[bad]));
    return numpy_array(std::move(packed), {matrix.num_bytes()});
}

NumpyArray<std::int8_t> unpack(const PackedBytes& packed, const std::string& packing, std::int64_t rows,
                               std::int64_t depth, const IsaName& isa) {
    const PackedMatrix matrix = packed_matrix("unpack", packing, rows, depth);
    check_packed_size("unpack", matrix, packed.size());
    const TernaryKernels& kernels = table_of(isa).ternary;
    auto codes = std::make_unique_for_overwrite<std::int8_t[]>(matrix.rows * matrix.depth);
    std::size_t bad;
    {
        const nb::gil_scoped_release release;
        bad = (kernels.*matrix.unpack)(packed.data(), matrix.rows, matrix.depth, codes.get());
    }
    if (bad != packed.size())
        throw CorruptPacking("unpack: byte " + std::to_string(bad) + " of the " + packing + " weights is " +
                             std::to_string(packed.data()[bad]) + ", which that packing never contains there; " +
                             "the data is damaged or of another packing");
    return numpy_array(std::move(codes), {matrix.rows, matrix.depth});
}

NumpyArray<std::int32_t> ternary_matmul(const PackedBytes& packed, const std::string& packing, std::int64_t rows,
                                        std::int64_t depth, const Codes& activations, const IsaName& isa, int threads) {
    const PackedMatrix matrix = packed_matrix("ternary_matmul", packing, rows, depth);
    check_packed_size("ternary_matmul", matrix, packed.size());
    check_threads("ternary_matmul", threads);
    if (activations.shape(1) != matrix.depth)
        reject("ternary_matmul", "activations", "int8[tokens, " + std::to_string(depth) + "]",
               "int8[" + std::to_string(activations.shape(0)) + ", " + std::to_string(activations.shape(1)) + "]");
    const TernaryKernels& kernels = table_of(isa).ternary;
    const std::size_t tokens = activations.shape(0);
    auto out = std::make_unique_for_overwrite<std::int32_t[]>(tokens * matrix.rows);
    {
        const nb::gil_scoped_release release;
        TernaryProduct product(matrix, tokens);
        for (std::size_t token = 0; token < tokens; ++token)
            product.set_activations(token, activations.data() + token * matrix.depth);
        ThreadPool pool(threads);
        product.run(kernels, packed.data(), pool);
        for (std::size_t token = 0; token < tokens; ++token)
            std::memcpy(out.get() + token * matrix.rows, product.out_row(token), matrix.rows * sizeof(std::int32_t));
    }
    return numpy_array(std::move(out), {tokens, matrix.rows});
}

}  // namespace

void bind_kernels(nb::module_& module) {
    module.attr("MAX_DEPTH") = max_depth;
    module.def(
        "packed_bytes",
        [](const std::string& packing, std::int64_t rows, std::int64_t depth) {
            return packed_matrix("packed_bytes", packing, rows, depth).num_bytes();
        },
        nb::arg("packing"), nb::arg("rows"), nb::arg("depth"));
    module.def("pack", &pack, nb::arg("codes"), nb::arg("packing"), nb::arg("isa") = nb::none());
    module.def("unpack", &unpack, nb::arg("packed"), nb::arg("packing"), nb::arg("rows"), nb::arg("depth"),
               nb::arg("isa") = nb::none());
    module.def("ternary_matmul", &ternary_matmul, nb::arg("packed"), nb::arg("packing"), nb::arg("rows"),
               nb::arg("depth"), nb::arg("activations"), nb::arg("isa") = nb::none(), nb::arg("threads") = 1);
}

}  // namespace tercet::bindings

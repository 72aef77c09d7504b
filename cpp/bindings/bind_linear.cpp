// One linear layer or embedding at a time, for models that live elsewhere: float rows in, float rows out, activations
// rounded to int8 between, or not. The same operations that the decoder runs, on threads that stay alive between calls.
#include <algorithm>
#include <memory>
#include <mutex>

#include "matrix_arrays.hpp"

namespace tercet::bindings {
namespace {

using Rows = nb::ndarray<nb::numpy, float>;
using Ids = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using FloatRows = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// A team and its scratch memory. Callers on different threads take turns.
class LinearTeam {
  public:
    LinearTeam(int threads, const IsaName& isa) {
        check_threads("LinearTeam", threads);
        team_ = std::make_unique<Team>(table_of(isa), threads);
    }

    int num_threads() const noexcept { return team_->num_threads(); }

    Rows multiply(const FloatRows& x, const TernaryMatrixArray& weight, bool quantize) {
        const TernaryMatrix& matrix = weight.matrix();
        const std::size_t tokens = x.shape(0), depth = matrix.depth;
        if (x.shape(1) != depth)
            reject("LinearTeam.multiply", "x", "float32[tokens, " + std::to_string(depth) + "]",
                   "float32[" + std::to_string(tokens) + ", " + std::to_string(x.shape(1)) + "]");
        auto out = std::make_unique_for_overwrite<float[]>(tokens * matrix.rows);
        if (tokens != 0) {
            const nb::gil_scoped_release release;
            const std::lock_guard turn(one_caller_);
            input_.prepare(tokens, depth, quantize);
            team_->for_each(tokens, static_cast<double>(depth) * cost::value, [&](std::size_t token) {
                std::copy_n(x.data() + token * depth, depth, input_.row(token));
                input_.quantize(team_->kernels().floats, token);
            });
            const Product product{matrix, out.get()};
            tercet::multiply(*team_, input_, {&product, 1});
        }
        return rows_of(std::move(out), tokens, matrix.rows);
    }

    Rows look_up(const TernaryMatrixArray& table, const Ids& ids) {
        const TernaryMatrix& matrix = table.matrix();
        for (std::size_t i = 0; i < ids.size(); ++i)
            if (ids.data()[i] < 0 || static_cast<std::size_t>(ids.data()[i]) >= matrix.rows)
                reject("LinearTeam.look_up", "ids[" + std::to_string(i) + "]", "0 to " + std::to_string(matrix.rows - 1),
                       std::to_string(ids.data()[i]));
        auto out = std::make_unique_for_overwrite<float[]>(ids.size() * matrix.depth);
        {
            const nb::gil_scoped_release release;
            const std::lock_guard turn(one_caller_);
            embed(*team_, matrix, {ids.data(), ids.size()}, out.get());
        }
        return rows_of(std::move(out), ids.size(), matrix.depth);
    }

  private:
    static Rows rows_of(std::unique_ptr<float[]> values, std::size_t rows, std::size_t depth) {
        float* data = values.get();
        const nb::capsule owner(values.release(), [](void* memory) noexcept { delete[] static_cast<float*>(memory); });
        return {data, {rows, depth}, owner};
    }

    std::mutex one_caller_;
    std::unique_ptr<Team> team_;
    LinearInput input_;
};

}  // namespace

void bind_linear(nb::module_& module) {
    nb::class_<LinearTeam>(module, "LinearTeam")
        .def(nb::init<int, const IsaName&>(), nb::arg("threads") = 1, nb::arg("isa") = nb::none())
        .def_prop_ro("threads", &LinearTeam::num_threads)
        .def("multiply", &LinearTeam::multiply, nb::arg("x").noconvert(), nb::arg("weight"), nb::arg("quantize") = true)
        .def("look_up", &LinearTeam::look_up, nb::arg("table"), nb::arg("ids").noconvert());
}

}  // namespace tercet::bindings

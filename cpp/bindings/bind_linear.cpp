// One linear layer at a time, for models that live elsewhere: float rows in, float rows out, activations rounded to int8
// between. The same operation that the decoder runs, on threads that stay alive between calls.
#include <algorithm>
#include <memory>
#include <mutex>

#include "matrix_arrays.hpp"

namespace tercet::bindings {
namespace {

using FloatRows = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// A team and its scratch memory. Callers on different threads take turns.
class LinearTeam {
  public:
    LinearTeam(int threads, const IsaName& isa) {
        check_threads("LinearTeam", threads);
        team_ = std::make_unique<Team>(table_of(isa), threads);
    }

    int num_threads() const noexcept { return team_->num_threads(); }

    nb::ndarray<nb::numpy, float> multiply(const FloatRows& x, const TernaryMatrixArray& weight) {
        const TernaryMatrix& matrix = weight.matrix();
        const std::size_t tokens = x.shape(0), depth = matrix.depth;
        if (x.shape(1) != depth)
            reject("LinearTeam.multiply", "x", "float32[tokens, " + std::to_string(depth) + "]",
                   "float32[" + std::to_string(tokens) + ", " + std::to_string(x.shape(1)) + "]");
        auto out = std::make_unique_for_overwrite<float[]>(tokens * matrix.rows);
        if (tokens != 0) {
            const nb::gil_scoped_release release;
            const std::lock_guard turn(one_caller_);
            input_.prepare(tokens, depth, true);
            team_->for_each(tokens, static_cast<double>(depth) * cost::value, [&](std::size_t token) {
                std::copy_n(x.data() + token * depth, depth, input_.row(token));
                input_.quantize(team_->kernels().floats, token);
            });
            const Product product{matrix, out.get()};
            tercet::multiply(*team_, input_, {&product, 1});
        }
        float* data = out.get();
        const nb::capsule owner(out.release(), [](void* memory) noexcept { delete[] static_cast<float*>(memory); });
        return {data, {tokens, matrix.rows}, owner};
    }

  private:
    std::mutex one_caller_;
    std::unique_ptr<Team> team_;
    LinearInput input_;
};

}  // namespace

void bind_linear(nb::module_& module) {
    nb::class_<LinearTeam>(module, "LinearTeam")
        .def(nb::init<int, const IsaName&>(), nb::arg("threads") = 1, nb::arg("isa") = nb::none())
        .def_prop_ro("threads", &LinearTeam::num_threads)
        .def("multiply", &LinearTeam::multiply, nb::arg("x").noconvert(), nb::arg("weight"));
}

}  // namespace tercet::bindings

// A head in two planes by itself: the operation that the decoder runs, for tests and measurements.
#include <memory>
#include <mutex>
#include <vector>

#include "matrix_arrays.hpp"

namespace tercet::bindings {
namespace {

using Rows = nb::ndarray<nb::numpy, float>;
using Ids = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using FloatRows = nb::ndarray<const float, nb::ndim<2>, nb::c_contig, nb::device::cpu>;

// A team and its scratch memory. Callers on different threads take turns.
class HeadTeam {
  public:
    HeadTeam(int threads, const IsaName& isa) {
        check_threads("HeadTeam", threads);
        team_ = std::make_unique<Team>(table_of(isa), threads);
    }

    Rows multiply(const FloatRows& x, const PlaneMatrixArray& head, std::uint8_t use) {
        const PlaneMatrix& matrix = head.matrix();
        const std::size_t vectors = x.shape(0);
        if (x.shape(1) != matrix.depth)
            reject("HeadTeam.multiply", "x", "float32[vectors, " + std::to_string(matrix.depth) + "]",
                   "float32[" + std::to_string(vectors) + ", " + std::to_string(x.shape(1)) + "]");
        const std::vector<LogitUse> uses = logit_uses_of("HeadTeam.multiply", std::vector(vectors, use));
        return run(vectors, matrix.rows, [&](float* out) {
            if (vectors != 0) project(*team_, matrix, x.data(), vectors, out, uses);
        });
    }

    Rows look_up(const PlaneMatrixArray& table, const Ids& ids) {
        const PlaneMatrix& matrix = table.matrix();
        for (std::size_t i = 0; i < ids.size(); ++i)
            if (ids.data()[i] < 0 || static_cast<std::size_t>(ids.data()[i]) >= matrix.rows)
                reject("HeadTeam.look_up", "ids[" + std::to_string(i) + "]", "0 to " + std::to_string(matrix.rows - 1),
                       std::to_string(ids.data()[i]));
        return run(ids.size(), matrix.depth, [&](float* out) { embed(*team_, matrix, {ids.data(), ids.size()}, out); });
    }

  private:
    template <class Work>
    Rows run(std::size_t rows, std::size_t columns, Work work) {
        auto out = std::make_unique_for_overwrite<float[]>(rows * columns);
        {
            const nb::gil_scoped_release release;
            const std::lock_guard turn(one_caller_);
            const FloatEnvironment environment;
            work(out.get());
        }
        float* data = out.get();
        const nb::capsule owner(out.release(), [](void* memory) noexcept { delete[] static_cast<float*>(memory); });
        return {data, {rows, columns}, owner};
    }

    std::mutex one_caller_;
    std::unique_ptr<Team> team_;
};

}  // namespace

void bind_head(nb::module_& module) {
    nb::class_<HeadTeam>(module, "HeadTeam")
        .def(nb::init<int, const IsaName&>(), nb::arg("threads") = 1, nb::arg("isa") = nb::none())
        .def("multiply", &HeadTeam::multiply, nb::arg("x").noconvert(), nb::arg("head"), nb::arg("use") = 0)
        .def("look_up", &HeadTeam::look_up, nb::arg("table"), nb::arg("ids").noconvert());
}

}  // namespace tercet::bindings

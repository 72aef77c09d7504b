// The sampler, with the kernels of TERCET_ISA or the best. One per thread, so that its scratch memory stays and callers
// need no lock.
#include <nanobind/ndarray.h>

#include "bindings.hpp"
#include "tercet/sampling.hpp"

namespace tercet::bindings {
namespace {

using Logits = nb::ndarray<const float, nb::ndim<1>, nb::c_contig, nb::device::cpu>;
using TokenIds = nb::ndarray<const std::int32_t, nb::ndim<1>, nb::c_contig, nb::device::cpu>;

std::span<const std::int32_t> span_of(const TokenIds& ids) { return {ids.data(), ids.size()}; }

std::int32_t sample(const Logits& logits, double temperature, std::uint32_t top_k, double top_p, double min_p,
                    double repetition_penalty, double presence_penalty, double frequency_penalty, std::uint64_t seed,
                    const TokenIds& prompt_ids, const TokenIds& generated_ids, std::uint64_t step) {
    const SamplingRule rule{temperature,
                            top_k,
                            top_p,
                            min_p,
                            static_cast<float>(repetition_penalty),
                            static_cast<float>(presence_penalty),
                            static_cast<float>(frequency_penalty),
                            seed};
    thread_local Sampler sampler(table_of({}).head);
    const nb::gil_scoped_release release;
    return sampler.sample({logits.data(), logits.size()}, rule, span_of(prompt_ids), span_of(generated_ids), step);
}

}  // namespace

void bind_sampling(nb::module_& module) {
    module.def("sample", &sample, nb::arg("logits").noconvert(), nb::kw_only(), nb::arg("temperature"), nb::arg("top_k"),
               nb::arg("top_p"), nb::arg("min_p"), nb::arg("repetition_penalty"), nb::arg("presence_penalty"),
               nb::arg("frequency_penalty"), nb::arg("seed"), nb::arg("prompt_ids").noconvert(),
               nb::arg("generated_ids").noconvert(), nb::arg("step"));
    module.def("uniform", &uniform, nb::arg("seed"), nb::arg("step"));
}

}  // namespace tercet::bindings

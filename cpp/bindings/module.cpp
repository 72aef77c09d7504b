// tercet._core, a table of contents. Each bind_*.cpp registers one topic; only tercet.kernels imports this module.
#include <nanobind/nanobind.h>

#include <exception>

#include "packed_matrix.hpp"

namespace tercet::bindings {

void bind_isa(nb::module_& module);
void bind_kernels(nb::module_& module);
void bind_probes(nb::module_& module);
void bind_decoder(nb::module_& module);
void bind_linear(nb::module_& module);
void bind_head(nb::module_& module);
void bind_sampling(nb::module_& module);
void bind_files(nb::module_& module);

namespace {

// Raises the exception of this name from tercet.errors, which knows nothing of C++.
void raise_python_error(const char* name, const char* message) {
    PyErr_SetString(nb::module_::import_("tercet.errors").attr(name).ptr(), message);
}

void translate_exception(const std::exception_ptr& exception, void*) {
    try {
        std::rethrow_exception(exception);
    } catch (const IsaError& error) {
        raise_python_error("IsaError", error.what());
    } catch (const std::invalid_argument& error) {
        raise_python_error("ParameterError", error.what());
    } catch (const CorruptPacking& error) {
        raise_python_error("FormatError", error.what());
    }
}

}  // namespace
}  // namespace tercet::bindings

NB_MODULE(_core, module) {
    using namespace tercet::bindings;
    nb::register_exception_translator(translate_exception);
    bind_isa(module);
    bind_kernels(module);
    bind_probes(module);
    bind_decoder(module);
    bind_linear(module);
    bind_head(module);
    bind_sampling(module);
    bind_files(module);
}

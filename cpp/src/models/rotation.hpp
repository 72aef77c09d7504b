// The rotated basis of a model's weights: src/tercet/models/rotation.py has the fields and the checks.
#pragma once

#include <string>

#include "decoder/assembly.hpp"
#include "models/config_fields.hpp"

namespace tercet {

// Throws FormatError.
RotatedBasis read_rotation(const ConfigFields& fields);

}  // namespace tercet

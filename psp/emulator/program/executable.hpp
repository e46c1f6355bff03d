// SPDX-License-Identifier: Apache-2.0
#pragma once
#include <string>

#include "base/file.hpp"

namespace sev::psp::emulator {

/// Where execvp would find the program. Throws Error{Fault::usage} when it is nowhere.
Path find_program(const std::string& name);

/// Refuses a program that a preloaded library cannot reach, and says why: statically linked, set-user-ID, of another machine or another C library,
/// not executable. Follows the interpreter lines of scripts. Throws Error{Fault::usage}; Error{Fault::malformed} for a broken ELF file.
void check_preloadable(const Path& program);

} // namespace sev::psp::emulator

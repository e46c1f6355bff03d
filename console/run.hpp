// SPDX-License-Identifier: Apache-2.0
#pragma once
#include "console/command.hpp"

namespace sev::cli {

/// A program's whole main: finds the command, parses, runs it, and says on stderr what went wrong. Returns the exit status: 0 yes, 1 no, 2 trouble.
/// Besides the commands it knows help, --help, --version and -q, and, for the build and the tests, --print-man, --print-completion SHELL and
/// --print-commands-json.
int run(const Program& program, int argc, char** argv);

} // namespace sev::cli

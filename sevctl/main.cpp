// SPDX-License-Identifier: Apache-2.0
#include "console/run.hpp"
#include "sevctl/commands.hpp"

int main(int argc, char** argv) { return sev::cli::run(sev::cli::sevctl, argc, argv); }

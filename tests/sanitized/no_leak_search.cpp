// SPDX-License-Identifier: Apache-2.0
// Only in daemons built with AddressSanitizer. The leak search at a program's end attaches to the program as a debugger does, which one that gave up
// ptrace is killed for. The rooms' own tests look for leaks of everything but main.
extern "C" const char* __asan_default_options();
extern "C" const char* __asan_default_options() { return "detect_leaks=0"; }

/* A system library that Wine 8 lacks and Rust's standard library wants random numbers from. */
#include <windows.h>

BOOLEAN NTAPI SystemFunction036(void* out, ULONG bytes);

__declspec(dllexport) BOOL WINAPI ProcessPrng(BYTE* out, SIZE_T bytes) { return SystemFunction036(out, (ULONG)bytes); }

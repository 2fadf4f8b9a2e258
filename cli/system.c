#define _XOPEN_SOURCE 700
#include "system.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32

#include <io.h>
#include <windows.h>

bool system_find(system_file* out, const char* path) {
    const DWORD share = FILE_SHARE_READ | FILE_SHARE_WRITE | FILE_SHARE_DELETE;
    HANDLE file = CreateFileA(path, 0, share, NULL, OPEN_EXISTING, FILE_FLAG_BACKUP_SEMANTICS /* directories */, NULL);
    if (file == INVALID_HANDLE_VALUE) return false;
    BY_HANDLE_FILE_INFORMATION status;
    bool known = GetFileInformationByHandle(file, &status);
    CloseHandle(file);
    if (known) {
        out->device = status.dwVolumeSerialNumber;
        out->number = (uint64_t)status.nFileIndexHigh << 32 | status.nFileIndexLow;
    }
    return known;
}

bool system_same_name(const char* a, const char* b) { return _stricmp(a, b) == 0; }

char* system_resolve(const char* path) { return _fullpath(NULL, path, 0); }

bool system_permit(int descriptor) {
    (void)descriptor;
    return true;
}

bool system_sync(int descriptor) { return _commit(descriptor) == 0; }

bool system_replace(const char* from, const char* to) {
    bool done = MoveFileExA(from, to, MOVEFILE_REPLACE_EXISTING);
    if (!done) errno = EACCES; /* write-protected, or open in another program */
    return done;
}

bool system_stderr_is_terminal(void) {
    HANDLE console = GetStdHandle(STD_ERROR_HANDLE);
    DWORD mode;
    return GetConsoleMode(console, &mode) && SetConsoleMode(console, mode | ENABLE_VIRTUAL_TERMINAL_PROCESSING);
}

#else

#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

bool system_find(system_file* out, const char* path) {
    struct stat status;
    bool known = stat(path, &status) == 0;
    if (known) *out = (system_file){(uint64_t)status.st_dev, (uint64_t)status.st_ino};
    return known;
}

bool system_same_name(const char* a, const char* b) { return strcmp(a, b) == 0; }

char* system_resolve(const char* path) { return realpath(path, NULL); }

bool system_permit(int descriptor) {
    mode_t mask = umask(0);
    umask(mask);
    return fchmod(descriptor, 0666 & ~mask) == 0;
}

bool system_sync(int descriptor) { return fsync(descriptor) == 0 || errno == EINVAL || errno == ENOTSUP; }

bool system_replace(const char* from, const char* to) { return rename(from, to) == 0; }

bool system_stderr_is_terminal(void) { return isatty(STDERR_FILENO); }

#endif

/* A file that is read from front to end, plain or gzip, and must end where its reader expects it. */
#ifndef PATCHMASK_STREAM_H
#define PATCHMASK_STREAM_H

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include <fcntl.h>
#include <unistd.h>

#include "itk_zlib.h"
#include "scan.h"

class Stream {
public:
    explicit Stream(const std::string& path, long start = 0) : m_Path(path) {
        const int descriptor = open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (descriptor >= 0 && lseek(descriptor, start, SEEK_SET) == start) m_File = gzdopen(descriptor, "rb");
        if (m_File == nullptr) throw ScanError(path + ": could not be opened");
    }
    ~Stream() {
        if (m_File != nullptr) gzclose(m_File);
    }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    void Read(void* out, size_t bytes) {
        if (GetSome(static_cast<char*>(out), bytes) != bytes) throw ScanError(m_Path + ": is cut off: copy it again");
    }
    /** The rest of the file, which must be `bytes` long, and whole where it is gzip. */
    std::vector<char> ReadRest(size_t bytes) {
        std::vector<char> rest(bytes + 1);  // one more: zlib looks for the end of the stream only when asked for more
        const size_t got = GetSome(rest.data(), rest.size());
        if (got > bytes) throw ScanError(m_Path + ": is longer than its header says: its sizes are wrong");
        if (gzclose(std::exchange(m_File, nullptr)) != Z_OK || got < bytes)
            throw ScanError(m_Path + ": is cut off: copy it again");
        rest.pop_back();
        return rest;
    }

private:
    size_t GetSome(char* out, size_t bytes) {
        size_t got = 0;
        for (int some = 1; got < bytes && some > 0; got += static_cast<size_t>(some)) {
            some = gzread(m_File, out + got, static_cast<unsigned>(std::min<size_t>(bytes - got, 1 << 24)));
            if (some < 0) throw ScanError(m_Path + ": is damaged: copy it again");
        }
        return got;
    }

    std::string m_Path;
    gzFile m_File = nullptr;
};

#endif

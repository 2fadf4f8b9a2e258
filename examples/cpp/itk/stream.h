/* A file that is read from front to end, plain or gzip, and must end where its reader expects it. */
#ifndef PATCHMASK_STREAM_H
#define PATCHMASK_STREAM_H

#include <algorithm>
#include <array>
#include <fstream>
#include <string>
#include <vector>

#include "itk_zlib.h"
#include "scan.h"

class Stream {
public:
    explicit Stream(const std::string& path) : Stream(path, 0, IsPacked(path)) {}
    /** From `start` on; `packed`: gzip, and nothing else. */
    Stream(const std::string& path, std::streamoff start, bool packed)
        : m_Path(path), m_File(path, std::ios::binary), m_Packed(packed) {
        if (!m_File.seekg(start)) throw ScanError(path + ": could not be opened");
        if (packed && inflateInit2(&m_Zlib, 16 + MAX_WBITS) != Z_OK) throw std::bad_alloc();
    }
    ~Stream() {
        if (m_Packed) inflateEnd(&m_Zlib);
    }
    Stream(const Stream&) = delete;
    Stream& operator=(const Stream&) = delete;

    void Read(void* out, size_t bytes) {
        if (GetSome(static_cast<char*>(out), bytes) != bytes) throw ScanError(m_Path + ": is cut off: copy it again");
    }
    /** The rest of the file, which must be `bytes` long, and whole where it is gzip. */
    std::vector<char> ReadRest(size_t bytes) {
        std::vector<char> rest(bytes + 1);  // one more: the end is looked at only when asked for more
        const size_t got = GetSome(rest.data(), rest.size());
        if (got > bytes) throw ScanError(m_Path + ": is longer than its header says: its sizes are wrong");
        if (got < bytes) throw ScanError(m_Path + ": is cut off: copy it again");
        rest.pop_back();
        return rest;
    }

private:
    static bool IsPacked(const std::string& path) {
        std::ifstream file(path, std::ios::binary);
        return file.get() == 0x1f && file.get() == 0x8b;
    }

    size_t ReadFile(char* out, size_t bytes) {
        m_File.read(out, static_cast<std::streamsize>(bytes));
        return static_cast<size_t>(m_File.gcount());
    }

    /** Less than `bytes` only at the end of the file. */
    size_t GetSome(char* out, size_t bytes) {
        if (!m_Packed) return ReadFile(out, bytes);
        size_t got = 0;
        while (got < bytes) {
            if (m_Zlib.avail_in == 0) {
                m_Zlib.next_in = m_Input.data();
                m_Zlib.avail_in = static_cast<uInt>(ReadFile(reinterpret_cast<char*>(m_Input.data()), m_Input.size()));
                if (m_Zlib.avail_in == 0 && m_Ended) break;
                if (m_Zlib.avail_in == 0) throw ScanError(m_Path + ": is cut off: copy it again");
            }
            if (m_Ended && *m_Zlib.next_in == 0) {  // padding, of tapes
                ++m_Zlib.next_in, --m_Zlib.avail_in;
                continue;
            }
            const auto room = static_cast<uInt>(std::min<size_t>(bytes - got, 1 << 24));
            m_Zlib.next_out = reinterpret_cast<Bytef*>(out + got);
            m_Zlib.avail_out = room;
            const int state = inflate(&m_Zlib, Z_NO_FLUSH);
            if (state != Z_OK && state != Z_STREAM_END) throw ScanError(m_Path + ": is damaged: copy it again");
            got += room - m_Zlib.avail_out;
            m_Ended = state == Z_STREAM_END;  // another one may follow
            if (m_Ended) inflateReset(&m_Zlib);
        }
        return got;
    }

    std::string m_Path;
    std::ifstream m_File;
    bool m_Packed, m_Ended = false;
    z_stream m_Zlib{};
    std::array<Bytef, 1 << 16> m_Input;
};

#endif

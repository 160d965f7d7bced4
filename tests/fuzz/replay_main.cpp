// Runs every file of the folders given through a fuzz target, in the order of their names. For compilers without
// libFuzzer, and for sanitizers that it does not go with.
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* bytes, std::size_t size);

namespace {

namespace fs = std::filesystem;

std::vector<fs::path> files_of(const fs::path& place) {
    std::vector<fs::path> files;
    std::error_code code;
    if (fs::is_regular_file(place, code))
        return {place};
    for (const auto& entry : fs::directory_iterator(place, code))
        if (entry.is_regular_file(code))
            files.push_back(entry.path());
    std::sort(files.begin(), files.end());
    return files;
}

bool replay(const fs::path& file) {
    std::ifstream stream(file, std::ios::binary);
    const std::vector<char> bytes{std::istreambuf_iterator<char>(stream), std::istreambuf_iterator<char>()};
    if (stream.bad()) {
        std::fprintf(stderr, "%s: cannot be read\n", file.c_str());
        return false;
    }
    // Named before it runs: a crash leaves the name of its cause.
    std::printf("%s\n", file.filename().c_str());
    std::fflush(stdout);
    // A copy of exactly this size, so that a sanitizer sees a read past the end.
    const std::vector<std::uint8_t> exact(bytes.begin(), bytes.end());
    LLVMFuzzerTestOneInput(exact.data(), exact.size());
    return true;
}

} // namespace

int main(int argument_count, char** arguments) {
    std::size_t count = 0;
    for (int i = 1; i < argument_count; ++i)
        for (const auto& file : files_of(arguments[i])) {
            if (!replay(file))
                return 1;
            ++count;
        }
    std::printf("%zu files\n", count);
    // An empty corpus would be a test that cannot fail.
    return count == 0 ? 1 : 0;
}

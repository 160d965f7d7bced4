// What `moira plugins --why` says about the built CUDA plugins on machines of all kinds, word for word.
#include "core/execute/compute_pool.hpp"
#include "plugins/plugin_file.hpp"

#include <doctest/doctest.h>
#include <fstream>
#include <initializer_list>
#include <sstream>
#include <string>

using namespace moira;

namespace {

moira_device_facts machine(std::initializer_list<std::uint32_t> chips, std::uint32_t nodes, std::uint32_t driver) {
    moira_device_facts facts{};
    facts.struct_size = sizeof facts;
    facts.cuda_devices = nodes;
    facts.nvidia_driver = driver;
    for (const std::uint32_t chip : chips)
        facts.gpu[facts.gpus++] = {chip, facts.gpus};
    return facts;
}

void describe(std::ostream& out, const char* name, const moira_device_facts& facts) {
    out << "# " << name << '\n';
    for (const char* plugin : {"cuda_sm80", "cuda_sm90", "cuda_sm100"}) {
        const auto file = std::filesystem::path(MOIRA_BUILD_PLUGINS) / (std::string(plugin) + ".so");
        const found_plugin found = probe_plugin(file, facts).found;
        out << found.name << ' ' << found.device_class << ' ' << found.score << ' ' << found.reason << '\n';
    }
}

std::string read_golden() {
    std::ifstream file(MOIRA_TEST_DATA "/cuda/plugin_reasons.txt");
    std::ostringstream text;
    text << file.rdbuf();
    return text.str();
}

} // namespace

TEST_CASE("the reasons of the CUDA plugins are those of the golden text, on machines with and without devices") {
    constexpr std::uint32_t a100 = 0x20b5, h100 = 0x2330, b200 = 0x2901, v100 = 0x1db1, unknown = 0xfff0;
    std::ostringstream text;
    describe(text, "no GPU", machine({}, 0, 0));
    describe(text, "an A100", machine({a100}, 1, 580));
    describe(text, "an H100", machine({h100}, 1, 580));
    describe(text, "a B200", machine({b200}, 1, 580));
    describe(text, "a V100", machine({v100}, 1, 580));
    describe(text, "a chip that is newer than the table", machine({unknown}, 1, 600));
    describe(text, "eight H100", machine({h100, h100, h100, h100, h100, h100, h100, h100}, 8, 580));
    describe(text, "a V100 and an H100", machine({v100, h100}, 2, 580));
    describe(text, "an H100 without a driver", machine({h100}, 0, 0));
    describe(text, "an H100 with an old driver", machine({h100}, 1, 535));
    describe(text, "a container that hides the bus", machine({}, 1, 580));
    CHECK(text.str() == read_golden());
    if (text.str() != read_golden())
        MESSAGE("found:\n", text.str());
}

#include "plugins/conformance/plugin_under_test.hpp"

#include "plugins/plugin_file.hpp"

namespace moira {

result<found_plugin> find_plugin(const std::vector<std::filesystem::path>& folders, const std::string& name) {
    const moira_device_facts facts = read_device_facts();
    for (const auto& folder : folders) {
        std::error_code code;
        for (std::filesystem::directory_iterator entry(folder, code), end; !code && entry != end;
             entry.increment(code)) {
            if (entry->path().extension() != ".so")
                continue;
            found_plugin found = probe_plugin(entry->path(), facts).found;
            if (found.name == name)
                return found;
        }
    }
    return fail(errc::not_found, "no plugin \"" + name + "\" in the given folders");
}

result<std::unique_ptr<plugin_under_test>> open_plugin_under_test(const std::vector<std::filesystem::path>& folders,
                                                                  const std::string& name,
                                                                  const std::string& device_class,
                                                                  std::uint32_t threads) {
    auto opened = std::make_unique<plugin_under_test>(threads);
    auto host = plugin_host::open({folders, name, device_class}, opened->pool);
    if (!host)
        return tl::unexpected<error>(host.error());
    opened->host = std::move(*host);
    return opened;
}

} // namespace moira

// Gives Slicer's own parser the description of a command-line module, and registers what it understood. Slicer's wheel has
// no headers: these declarations name what its libraries export, and `bytes` is at least as large as the description.
#include <string>

struct ModuleDescription {
    ModuleDescription();
    ModuleDescription(const ModuleDescription&);
    void SetType(const std::string&);
    void SetTarget(const std::string&);
    void SetLocation(const std::string&);
    const std::string& GetTitle() const;
    alignas(16) char bytes[1 << 14];
};

struct ModuleDescriptionParser {
    int Parse(const std::string& xml, ModuleDescription&);
};

struct vtkMRMLCommandLineModuleNode {
    static void RegisterModuleDescription(ModuleDescription);
};

// The module's title; NULL where Slicer refuses the description, and says why on stderr.
extern "C" const char* register_module(const char* xml, const char* program) {
    ModuleDescription& description = *new ModuleDescription;  // kept: nothing exported ends one
    if (ModuleDescriptionParser().Parse(xml, description) != 0) return nullptr;
    description.SetType("CommandLineModule");
    description.SetTarget(program);
    description.SetLocation(program);
    vtkMRMLCommandLineModuleNode::RegisterModuleDescription(description);
    return description.GetTitle().c_str();
}

#include "slicer.h"

#include <stdio.h>

#include "patchmask.h"

#define TEXT_OF(number) #number
#define TEXT(number) TEXT_OF(number)
#define VERSION_TEXT TEXT(PATCHMASK_VERSION_MAJOR) "." TEXT(PATCHMASK_VERSION_MINOR) "." TEXT(PATCHMASK_VERSION_PATCH)

/* Slicer refuses a description with a hyphen inside a flag: underscores stand for them.
 *
 * It passes on a parameter with a number whatever its panel says, but leaves out a string or vector that is
 * empty: what defaults to the model's metadata is therefore one of these. */
static const char HEAD[] =
    "<?xml version=\"1.0\" encoding=\"utf-8\"?>\n"
    "<executable>\n"
    "  <category>Segmentation</category>\n"
    "  <title>Patchmask Lesion Segmentation</title>\n"
    "  <description>Classifies every patch of every slice of a CT volume in HU with a VGG16 and writes the lesion "
    "mask. Not a medical device.</description>\n"
    "  <version>" VERSION_TEXT
    "</version>\n"
    "  <documentation-url></documentation-url>\n"
    "  <license>MIT OR Apache-2.0</license>\n"
    "  <contributor>The patchmask authors</contributor>\n"
    "  <acknowledgements></acknowledgements>\n";

static const char INPUTS[] =
    "  <parameters>\n"
    "    <label>Volumes</label>\n"
    "    <description>The CT volume, the model and the results</description>\n"
    "    <image>\n"
    "      <name>inputVolume</name>\n"
    "      <label>CT volume</label>\n"
    "      <channel>input</channel>\n"
    "      <index>0</index>\n"
    "      <description>CT volume, intensities in HU</description>\n"
    "    </image>\n"
    "    <image type=\"label\" reference=\"inputVolume\">\n"
    "      <name>outputMask</name>\n"
    "      <label>Mask</label>\n"
    "      <channel>output</channel>\n"
    "      <index>1</index>\n"
    "      <description>Class of each voxel, on the grid of the CT volume</description>\n"
    "    </image>\n"
    "    <file fileExtensions=\".safetensors\">\n"
    "      <name>model</name>\n"
    "      <label>Model</label>\n"
    "      <channel>input</channel>\n"
    "      <longflag>--model</longflag>\n"
    "      <description>Weights of the VGG16 (.safetensors)</description>\n"
    "    </file>\n"
    "    <image type=\"label\">\n"
    "      <name>roi</name>\n"
    "      <label>ROI</label>\n"
    "      <channel>input</channel>\n"
    "      <longflag>--roi</longflag>\n"
    "      <description>Evaluate only where this label map is not zero; the whole volume without one</description>\n"
    "    </image>\n"
    "    <boolean>\n"
    "      <name>body</name>\n"
    "      <label>Body only</label>\n"
    "      <longflag>--body</longflag>\n"
    "      <description>Evaluate only the body, found in each slice: nothing in the air around it</description>\n"
    "      <default>false</default>\n"
    "    </boolean>\n"
    "    <image reference=\"inputVolume\">\n"
    "      <name>probability</name>\n"
    "      <label>Probability</label>\n"
    "      <channel>output</channel>\n"
    "      <longflag>--probability</longflag>\n"
    "      <description>Probability of the lesion class in each voxel</description>\n"
    "    </image>\n"
    "  </parameters>\n";

static const char PATCHES[] =
    "  <parameters advanced=\"true\">\n"
    "    <label>Patches and intensities</label>\n"
    "    <description>Empty fields take what the model's metadata says</description>\n"
    "    <string>\n"
    "      <name>patchSize</name>\n"
    "      <label>Patch size (pixels)</label>\n"
    "      <longflag>--patch_size</longflag>\n"
    "      <description>Side of a patch, " TEXT(PATCHMASK_PATCH_SIZE_MIN) " to " TEXT(PATCHMASK_PATCH_SIZE_MAX)
    "; empty: the model's</description>\n"
    "    </string>\n"
    "    <string>\n"
    "      <name>stride</name>\n"
    "      <label>Stride (pixels)</label>\n"
    "      <longflag>--stride</longflag>\n"
    "      <description>Pixels between patch centres; empty: the model's</description>\n"
    "    </string>\n"
    "    <string>\n"
    "      <name>pixelMm</name>\n"
    "      <label>Pixel size (mm)</label>\n"
    "      <longflag>--pixel_mm</longflag>\n"
    "      <description>Side of the pixels that patch size and stride count; slices of other pixels are resampled. "
    "0: the volume's pixels; empty: the model's</description>\n"
    "    </string>\n"
    "    <boolean>\n"
    "      <name>noResample</name>\n"
    "      <label>Do not resample</label>\n"
    "      <longflag>--no_resample</longflag>\n"
    "      <description>Keep the volume's pixels, whatever the model says</description>\n"
    "      <default>false</default>\n"
    "    </boolean>\n"
    "    <double-vector>\n"
    "      <name>window</name>\n"
    "      <label>Window (HU)</label>\n"
    "      <longflag>--window</longflag>\n"
    "      <description>LOW,HIGH: HU that become intensity 0 and 1; empty: the model's</description>\n"
    "    </double-vector>\n"
    "    <string-enumeration>\n"
    "      <name>fill</name>\n"
    "      <label>Fill</label>\n"
    "      <longflag>--fill</longflag>\n"
    "      <description>How patch classes become voxels</description>\n"
    "      <default>nearest</default>\n"
    "      <element>nearest</element>\n"
    "      <element>linear</element>\n"
    "    </string-enumeration>\n"
    "    <string>\n"
    "      <name>threshold</name>\n"
    "      <label>Threshold</label>\n"
    "      <longflag>--threshold</longflag>\n"
    "      <description>Probability from which a voxel is lesion, 0 to 1. 0: the most probable class; empty: the "
    "model's</description>\n"
    "    </string>\n"
    "    <string-enumeration>\n"
    "      <name>padding</name>\n"
    "      <label>Padding</label>\n"
    "      <longflag>--padding</longflag>\n"
    "      <description>Zeros at each patch's border, as trained, or at the image's: far less work, other "
    "results</description>\n"
    "      <default>patch</default>\n"
    "      <element>patch</element>\n"
    "      <element>image</element>\n"
    "    </string-enumeration>\n"
    "  </parameters>\n";

static const char RESOURCES[] =
    "  <parameters advanced=\"true\">\n"
    "    <label>Resources</label>\n"
    "    <description>Where the network runs, and with how much</description>\n"
    "    <string-enumeration>\n"
    "      <name>device</name>\n"
    "      <label>Device</label>\n"
    "      <longflag>--device</longflag>\n"
    "      <description>auto: a GPU where there is a usable one, else the CPU</description>\n"
    "      <default>auto</default>\n"
    "      <element>auto</element>\n"
    "      <element>cpu</element>\n"
    "      <element>cuda</element>\n"
    "    </string-enumeration>\n"
    "    <integer>\n"
    "      <name>threads</name>\n"
    "      <label>Threads</label>\n"
    "      <longflag>--threads</longflag>\n"
    "      <description>Worker threads of the CPU engine; 0: one per core</description>\n"
    "      <default>0</default>\n"
    "      <constraints>\n"
    "        <minimum>0</minimum>\n"
    "        <maximum>1024</maximum>\n"
    "        <step>1</step>\n"
    "      </constraints>\n"
    "    </integer>\n"
    "    <integer>\n"
    "      <name>memory</name>\n"
    "      <label>Memory (MiB)</label>\n"
    "      <longflag>--memory</longflag>\n"
    "      <description>Limit for what the library allocates; 0: automatic</description>\n"
    "      <default>0</default>\n"
    "      <constraints>\n"
    "        <minimum>0</minimum>\n"
    "        <maximum>1048576</maximum>\n"
    "        <step>256</step>\n"
    "      </constraints>\n"
    "    </integer>\n"
    "    <boolean hidden=\"true\">\n"
    "      <name>slicerProgress</name>\n"
    "      <label>Progress for Slicer</label>\n"
    "      <longflag>--slicer_progress</longflag>\n"
    "      <description>Print progress tags on standard output</description>\n"
    "      <default>true</default>\n"
    "    </boolean>\n"
    "  </parameters>\n"
    "</executable>\n";

void slicer_print_description(void) {
    fputs(HEAD, stdout);
    fputs(INPUTS, stdout);
    fputs(PATCHES, stdout);
    fputs(RESOURCES, stdout);
}

void slicer_print_start(void) {
    fputs(
        "<filter-start>\n"
        "<filter-name>segment</filter-name>\n"
        "<filter-comment>Classifying patches</filter-comment>\n"
        "</filter-start>\n",
        stdout);
    fflush(stdout);
}

void slicer_print_progress(double fraction) {
    printf("<filter-progress>%.6g</filter-progress>\n", fraction);
    fflush(stdout);
}

void slicer_print_end(double seconds) {
    printf(
        "<filter-end>\n"
        "<filter-name>segment</filter-name>\n"
        "<filter-time>%.3f</filter-time>\n"
        "</filter-end>\n",
        seconds);
    fflush(stdout);
}

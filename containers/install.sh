#!/bin/sh
# Installs voco2d, from the folder this is called in, into a new virtual environment with the versions of constraints.txt.
# Both Dockerfiles call it, and so can anyone without a container engine:
#
#   sh containers/install.sh PREFIX TORCH_INDEX EXTRAS
#
# PREFIX       folder of the virtual environment, such as /opt/voco2d
# TORCH_INDEX  package index of torch: https://pypi.org/simple (with CUDA) or https://download.pytorch.org/whl/cpu
# EXTRAS       extras of voco2d with commas between them, such as dicom,itk
set -eu
prefix=$1 torch_index=$2 extras=$3

python3 -m venv "$prefix"
# from its own index, and only these two, so that no other package can come from there
"$prefix/bin/pip" install --no-cache-dir --no-deps --constraint constraints.txt --index-url "$torch_index" torch torchvision
"$prefix/bin/pip" install --no-cache-dir --constraint constraints.txt ".[$extras]"
"$prefix/bin/pip" check
"$prefix/bin/voco2d" info

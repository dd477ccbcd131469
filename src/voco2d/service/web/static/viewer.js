// Shows a volume by NiiVue, with at most one overlay; slices are counted from above, from 0.
"use strict";

class Viewer {
  constructor(canvas, onSlice) {
    this.canvas = canvas;
    this.onSlice = onSlice;
    this.shown = 1;
    this.ready = null;
  }

  async show(buffer, slices, window) {
    await this.#attach();
    for (const volume of [...this.nv.volumes]) this.nv.removeVolume(volume);
    this.nv.addVolume(await niivue.NVImage.loadFromUrl({ url: "scan.nii.gz", name: "scan.nii.gz", buffer }));
    this.shown = slices;
    this.setWindow(window);
    this.setSlice(Math.floor(slices / 2));
  }

  async showOverlay(buffer, opacity) {
    this.hideOverlay();
    const overlay = await niivue.NVImage.loadFromUrl({
      url: "overlay.nii.gz", name: "overlay.nii.gz", buffer, colormap: "inferno", opacity, cal_min: 38, cal_max: 255,
    });
    overlay.colorbarVisible = false;
    this.nv.addVolume(overlay);
  }

  hideOverlay() {
    if (this.nv.volumes.length > 1) this.nv.removeVolume(this.nv.volumes[1]);
  }

  get hasOverlay() {
    return this.nv !== undefined && this.nv.volumes.length > 1;
  }

  setOpacity(opacity) {
    if (this.hasOverlay) this.nv.setOpacity(1, opacity);
  }

  setWindow([low, high]) {
    const scan = this.nv.volumes[0];
    scan.cal_min = low;
    scan.cal_max = high;
    this.nv.updateGLVolume();
  }

  setPlanes(all) {
    this.nv.setCrosshairWidth(all ? 0.5 : 0);  // of use where it shows how the planes meet
    this.nv.setSliceType(all ? this.nv.sliceTypeMultiplanar : this.nv.sliceTypeAxial);
  }

  get slice() {
    return this.shown - 1 - Math.min(this.shown - 1, Math.max(0, Math.floor(this.nv.scene.crosshairPos[2] * this.shown)));
  }

  setSlice(slice) {
    const place = Math.min(this.shown - 1, Math.max(0, slice));
    this.nv.scene.crosshairPos[2] = (this.shown - 1 - place + 0.5) / this.shown;
    this.nv.createOnLocationChange();
    this.nv.drawScene();
    this.onSlice(place);
  }

  #attach() {
    this.ready ??= (async () => {
      this.nv = new niivue.Niivue({
        backColor: [0, 0, 0, 1], crosshairWidth: 0, isColorbar: false, isOrientCube: false, loadingText: "",
        dragAndDropEnabled: false, isRadiologicalConvention: true, logLevel: "error",
        clipPlaneHotKey: "", cycleClipPlaneHotKey: "", viewModeHotKey: "",
      });
      await this.nv.attachToCanvas(this.canvas);
      this.nv.setSliceType(this.nv.sliceTypeAxial);
      this.nv.onLocationChange = () => this.onSlice(this.slice);
    })();
    return this.ready;
  }
}

-- Sends each CT series to the DICOM node "voco2d" once no more slices of it come, and tries again what didn't arrive.

local NODE = 'voco2d'
local NODE_AET = 'VOCO2D'

-- A series that came from the node is a result of it: sending it back would go on for ever.
local function isResult(series)
   local instance = ParseJson(RestApiGet('/series/' .. series))['Instances'][1]
   local metadata = ParseJson(RestApiGet('/instances/' .. instance .. '/metadata?expand'))
   return metadata['RemoteAET'] == NODE_AET
end

-- Orthanc keeps its jobs through a restart, but tries each once only.
local function tryAgain()
   for _, job in ipairs(ParseJson(RestApiGet('/jobs?expand'))) do
      if job['State'] == 'Failure' and job['Type'] == 'DicomModalityStore' then
         RestApiPost('/jobs/' .. job['ID'] .. '/resubmit', '')
      end
   end
end

function OnStableSeries(series, tags, metadata)
   tryAgain()
   if tags['Modality'] == 'CT' and not isResult(series) then
      local job = { Resources = { series }, Synchronous = false }
      RestApiPost('/modalities/' .. NODE .. '/store', DumpJson(job, true))
   end
end

-- Every LuaHeartBeatPeriod seconds; Orthanc 1.10 and older have no heart beat and try again with the next series only.
function OnHeartBeat()
   tryAgain()
end
